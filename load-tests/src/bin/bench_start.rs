//! Seconds from `obscura up` to the first acknowledged segment, and from a killed recorder, or a machine
//! of which every process was killed and that came up again, to frames that are durable again.

#![expect(clippy::indexing_slicing, reason = "a panic in a test or bench is a failure with a line number")]

use std::time::Duration;

use clap::Parser;
use obscura_journeys::{Auth, Installation, TestCamera, wait_for};
use obscura_load_tests::report::Line;
use serde_json::{Value, json};

/// Measure how soon Obscura records.
#[derive(Debug, Parser)]
struct Arguments {
    /// How often each is measured; the median is printed
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

fn main() {
    let arguments = Arguments::parse();
    let camera = TestCamera::start(Auth::None);
    let mut installation = Installation::start();
    installation.add_site();
    installation.add_camera("door", &camera.url("/scene"), &["--owner", "bench"]);
    recording(&installation);
    let (mut starts, mut kills, mut reboots) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..arguments.rounds {
        installation.down();
        installation.up();
        starts.push(wait_for("the first segment", || {
            installation.status()["supervisor"]["recording_after_s"].as_f64()
        }));
        recording(&installation);
        let before = acknowledged(&installation);
        installation.kill("ingest");
        kills.push(durable_after(&installation, before));
        recording(&installation);
        let before = acknowledged(&installation);
        installation.kill_everything();
        installation.up();
        reboots.push(durable_after(&installation, before));
    }
    let metrics = [
        ("up_to_first_acknowledged_s", &mut starts),
        ("killed_ingest_to_acknowledged_s", &mut kills),
        ("everything_killed_to_acknowledged_s", &mut reboots),
    ];
    for (metric, values) in metrics {
        values.sort_by(f64::total_cmp);
        let value = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
        let params = json!({ "rounds": arguments.rounds, "cameras": 1, "key_frame_interval_s": 2 });
        Line { bench: "start", metric, value, unit: "s", peer: None, peer_value: None, params }.print();
    }
}

fn recording(installation: &Installation) {
    installation.camera("door", "the camera to record", |camera| camera["recording"] == true);
    std::thread::sleep(Duration::from_secs(3));
}

/// Seconds until newer frames are durable.
fn durable_after(installation: &Installation, before: (f64, f64)) -> f64 {
    wait_for("durable frames", || {
        let now = acknowledged(installation);
        (now.1 > before.1).then_some(now.0 - before.0)
    })
}

/// Now, and the wall time up to which frames are durable, both in seconds.
fn acknowledged(installation: &Installation) -> (f64, f64) {
    let status: Value = installation.status();
    let now = std::time::UNIX_EPOCH.elapsed().map_or(0.0, |since| since.as_secs_f64());
    let ago = status["cameras"][0]["acknowledged_seconds_ago"].as_f64();
    (now, ago.map_or(0.0, |ago| now - ago))
}
