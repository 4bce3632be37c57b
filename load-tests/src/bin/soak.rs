//! Faults in random order for half an hour, and then an account of every second.
//!
//! Cameras record while services are killed, frozen and thawed, everything loses its power at once,
//! cameras go away and come back. Nothing is asserted on the way. At the end the verdict: every second of
//! every camera is footage or a gap with a reason, every segment reads back, index, objects and keys
//! agree, and a copy of the audit log verifies. Exit code 0 only then.

#![expect(clippy::indexing_slicing, reason = "a panic in a test or bench is a failure with a line number")]

use std::{process::ExitCode, thread::sleep, time::Duration};

use anyhow::Result;
use clap::Parser;
use indicatif::ProgressBar;
use obscura_journeys::{Auth, Installation, TestCamera, unaccounted};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

const SERVICES: [&str; 5] = ["ingest", "storage", "keys", "registry", "audit"];

/// Pull plugs for a while, then account for every second.
#[derive(Debug, Parser)]
struct Arguments {
    /// Minutes of faults
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// Cameras
    #[arg(long, default_value_t = 4)]
    cameras: usize,
    /// Seed of the order of faults; printed, so that a run can be repeated
    #[arg(long)]
    seed: Option<u64>,
}

/// One plug.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill(&'static str),
    Freeze(&'static str, u64),
    CameraAway(u64),
    PowerCut,
}

fn any_fault(random: &mut StdRng) -> Fault {
    let service = SERVICES[random.random_range(0..SERVICES.len())];
    match random.random_range(0..10) {
        0..=4 => Fault::Kill(service),
        5..=6 => Fault::Freeze(service, random.random_range(1..20)),
        7..=8 => Fault::CameraAway(random.random_range(1..15)),
        _ => Fault::PowerCut,
    }
}

fn inject(fault: Fault, installation: &mut Installation, camera: &mut TestCamera) {
    match fault {
        Fault::Kill(service) => installation.kill(service),
        Fault::Freeze(service, seconds) => {
            let pid = installation.pid(service);
            installation.freeze(service);
            sleep(Duration::from_secs(seconds));
            installation.thaw(pid);
        }
        Fault::CameraAway(seconds) => {
            camera.power_off();
            sleep(Duration::from_secs(seconds));
            camera.power_on();
        }
        Fault::PowerCut => {
            installation.kill_everything();
            installation.up();
        }
    }
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(rand::random);
    let mut random = StdRng::seed_from_u64(seed);
    let mut camera = TestCamera::start(Auth::None);
    let mut installation = Installation::start();
    installation.add_site();
    for number in 0..arguments.cameras {
        installation.add_camera(&format!("camera-{number}"), &camera.url("/scene"), &[]);
    }
    let bar = ProgressBar::new(arguments.minutes * 60);
    let mut faults = 0_u32;
    while bar.position() < arguments.minutes * 60 {
        let pause = random.random_range(2..25);
        sleep(Duration::from_secs(pause));
        let fault = any_fault(&mut random);
        bar.println(format!("{fault:?}"));
        inject(fault, &mut installation, &mut camera);
        faults += 1;
        bar.inc(pause + 5);
    }
    bar.finish_and_clear();
    let verdict = verdict(&installation);
    let good = verdict.as_object().is_some_and(|parts| parts.values().all(|part| part["good"] == true));
    let line = json!({ "bench": "soak", "metric": "good", "value": u8::from(good), "unit": "1",
        "params": { "minutes": arguments.minutes, "cameras": arguments.cameras, "faults": faults, "seed": seed },
        "verdict": verdict });
    println!("{line}");
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What each examiner says, once everything has come to rest.
fn verdict(installation: &Installation) -> Value {
    sleep(Duration::from_secs(20));
    let verified = installation.run(&["recording", "verify", "--json"]);
    let listed = installation.run(&["recording", "list", "--json"]);
    let holes = serde_json::from_str(&listed.out).map(|list| unaccounted(&list)).unwrap_or_default();
    let reconciled = installation.run(&["storage", "reconcile", "--json"]);
    let copy = installation.folder().join("log");
    let copy = copy.to_string_lossy().into_owned();
    let exported = installation.run(&["audit", "export", &copy]);
    let log = installation.run(&["audit", "verify", &copy, "--json"]);
    let part = |outcome: &obscura_journeys::Outcome| json!({ "good": outcome.code == Some(0), "said": outcome.out.chars().take(2_000).collect::<String>() });
    json!({
        "recording": part(&verified),
        "every_second": { "good": listed.code == Some(0) && holes.is_empty(), "holes": holes },
        "reconcile": part(&reconciled),
        "export": part(&exported),
        "log": part(&log),
    })
}
