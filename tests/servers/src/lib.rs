//! Real servers for tests: each starts once for a test process, on a port of the system's choice, in a
//! directory of its own, and ends with the process.

pub mod certificates;
pub mod garage;
pub mod nats;
mod port;
pub mod postgres;
pub mod process;
pub mod seaweedfs;
pub mod syslog;
pub mod webhook;
