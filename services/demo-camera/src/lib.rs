//! A real RTSP camera for demonstrations and tests.
//!
//! `/scene` shows a drawn square with people who walk across it and a burnt-in clock;
//! `/video/<name>` loops a video file for ever. Both are encoded while somebody watches, and only
//! then. No other crate links GStreamer.

mod arguments;
mod elements;
mod encoder;
mod feed;
mod scene;
mod server;
mod video;

pub use arguments::{Arguments, Authentication};
pub use elements::{MissingElement, check_elements};
pub use scene::{Scene, Size};
pub use server::Server;
pub use video::library::Library;
