//! Files that do not belong to a copy, and checkpoints that were seen before.

use std::io;

use super::Copied;
use crate::{BundleId, CHECKPOINT_PATH, Checkpoint, Problem, Report, Root, Tile, TileId, Tiles};

/// Names every file that a log of this size does not have.
pub fn check_names(copy: &dyn Copied, size: u64, more: &[String], report: &mut Report) -> io::Result<()> {
    let mut replaced = Vec::new();
    copy.each_path(&mut |path| match classify(path, size, more) {
        Name::Belongs => {}
        Name::Replaced(fuller) => replaced.push((path.to_owned(), fuller)),
        Name::Extra => report.add(Problem::ExtraFile { path: path.to_owned() }),
    })?;
    for (path, fuller) in replaced {
        check_replaced(copy, path, fuller, report)?;
    }
    Ok(())
}

enum Name {
    Belongs,
    /// A partial file in whose place there is a fuller one by now.
    Replaced(String),
    Extra,
}

fn classify(path: &str, size: u64, more: &[String]) -> Name {
    if path == CHECKPOINT_PATH || more.iter().any(|name| name == path) {
        return Name::Belongs;
    }
    let (width, current) = if let Ok(id) = path.parse::<TileId>() {
        (id.width(), TileId::in_log(id.level(), id.index(), size).map(|id| (id.width(), id.to_string())))
    } else if let Ok(id) = path.parse::<BundleId>() {
        (id.width(), BundleId::in_log(id.index(), size).map(|id| (id.width(), id.to_string())))
    } else {
        return Name::Extra;
    };
    match current {
        Some((current, _)) if current == width => Name::Belongs,
        Some((current, fuller)) if current > width => Name::Replaced(fuller),
        _ => Name::Extra,
    }
}

/// A partial file may stay, but it must be the beginning of what replaced it. Where that was
/// pruned, it must be gone too.
fn check_replaced(copy: &dyn Copied, path: String, fuller: String, report: &mut Report) -> io::Result<()> {
    let Some(whole) = copy.read(&fuller)? else {
        report.add(Problem::ExtraFile { path });
        return Ok(());
    };
    if copy.read(&path)?.is_some_and(|part| whole.starts_with(&part) && is_whole(&path, &part)) {
        return Ok(());
    }
    report.add(Problem::NotBeginning { path, fuller });
    Ok(())
}

/// Whether a partial file has as many hashes or entries as its name says.
fn is_whole(path: &str, bytes: &[u8]) -> bool {
    if let Ok(id) = path.parse::<TileId>() {
        return bytes.len() == usize::from(id.width()) * 32;
    }
    let width = path.parse::<BundleId>().map_or(0, |id| usize::from(id.width()));
    crate::decode_bundle(bytes).is_ok_and(|leaves| leaves.len() == width)
}

/// Checks that the log goes on from everything that was seen of it before.
pub fn check_earlier(
    copy: &dyn Copied,
    now: &Checkpoint,
    earlier: &[Checkpoint],
    report: &mut Report,
) -> io::Result<()> {
    for seen in earlier {
        if seen.origin != now.origin {
            report.add(Problem::OtherLog { origin: seen.origin.clone() });
        } else if seen.size > now.size {
            report.add(Problem::Rollback { size: now.size, seen: seen.size });
        } else if !begins_with(copy, now, seen)? {
            report.add(Problem::Fork { size: seen.size });
        }
    }
    Ok(())
}

fn begins_with(copy: &dyn Copied, now: &Checkpoint, seen: &Checkpoint) -> io::Result<bool> {
    if seen.size == now.size {
        return Ok(seen.root == now.root);
    }
    let Ok(root) = Root::new(seen.size) else { return Ok(false) };
    let mut tiles = Tiles::default();
    for id in root.plan() {
        // The tile has grown since.
        let Some(id) = TileId::in_log(id.level(), id.index(), now.size) else { return Ok(false) };
        let bytes = copy.read(&id.to_string())?.unwrap_or_default();
        Tile::from_bytes(id, &bytes).into_iter().for_each(|tile| tiles.insert(tile));
    }
    Ok(root.compute(&tiles) == Ok(seen.root))
}
