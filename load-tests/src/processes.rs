//! What a set of processes costs, read from `/proc`.

use std::{collections::HashSet, fs};

use anyhow::{Context as _, Result};

/// Clock ticks in a second: `USER_HZ`, 100 on every Linux that we run on.
const TICKS_PER_SECOND: f64 = 100.0;
/// Bytes of a page on x86-64 and most arm64.
const PAGE_BYTES: f64 = 4096.0;

/// Cost at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// CPU time spent so far, user and system, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory in MiB; pages that processes share count in each.
    pub rss_mib: f64,
    /// Number of processes.
    pub processes: usize,
}

/// A process and all that descend from it.
#[must_use]
pub fn tree(root: u32) -> Vec<u32> {
    let mut found = HashSet::from([root]);
    let parents: Vec<(u32, u32)> =
        all().into_iter().filter_map(|pid| Some((pid, stat(pid)?.parent))).collect();
    loop {
        let before = found.len();
        found.extend(
            parents
                .iter()
                .filter(|(_, parent)| found.contains(parent))
                .map(|(pid, _)| *pid)
                .collect::<Vec<_>>(),
        );
        if found.len() == before {
            return found.into_iter().collect();
        }
    }
}

/// What these processes cost together.
#[must_use]
pub fn cost(pids: &[u32]) -> Cost {
    let mut cost = Cost::default();
    for stat in pids.iter().filter_map(|pid| stat(*pid)) {
        cost.cpu_seconds += stat.ticks / TICKS_PER_SECOND;
        cost.rss_mib += stat.rss_pages * PAGE_BYTES / 1024.0 / 1024.0;
        cost.processes += 1;
    }
    cost
}

/// Resident memory of these processes by program, in MiB, largest first.
#[must_use]
pub fn memory(pids: &[u32]) -> Vec<(String, f64)> {
    let of = |pid: &u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        Some((name.trim().to_owned(), stat(*pid)?.rss_pages * PAGE_BYTES / 1024.0 / 1024.0))
    };
    let mut memory: Vec<_> = pids.iter().filter_map(of).collect();
    memory.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    memory
}

/// CPU seconds of one process.
///
/// # Errors
/// Where it does not exist.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    Ok(stat(pid).with_context(|| format!("process {pid} is gone"))?.ticks / TICKS_PER_SECOND)
}

struct Stat {
    parent: u32,
    ticks: f64,
    rss_pages: f64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; fields are counted behind it (proc(5)).
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        ticks: number(11)? + number(12)?,
        rss_pages: number(21)?,
    })
}

fn all() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_in_its_own_tree_and_uses_memory() {
        let own = std::process::id();
        assert!(tree(own).contains(&own));
        let cost = cost(&[own]);
        assert!(cost.rss_mib > 1.0 && cost.processes == 1);
        assert!(memory(&[own]).iter().all(|(name, mib)| !name.is_empty() && *mib > 1.0));
    }
}
