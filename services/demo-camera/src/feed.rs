//! Hands pictures to a pipeline, each when its time has come.

use gstreamer::{self as gst, prelude::*};
use gstreamer_app::{AppSrc, AppSrcCallbacks};

/// Where pictures come from.
pub trait Pictures: Send + 'static {
    /// The next picture with its presentation time, which is later than that of the one before.
    /// `running` is the pipeline's running time now: whoever is far behind it should catch up.
    ///
    /// # Errors
    /// Why there will be no more pictures, in words for the log.
    fn next(&mut self, running: gst::ClockTime) -> Result<gst::Buffer, String>;
}

/// Feeds `source` from `pictures` until the pipeline goes away or the pictures end.
///
/// A live source asks for data only while the pipeline plays, that is while somebody watches; so
/// nothing is drawn or decoded otherwise.
pub fn feed(source: &AppSrc, mut pictures: impl Pictures) {
    let need_data = move |source: &AppSrc, _bytes: u32| {
        let running = source.current_running_time().unwrap_or(gst::ClockTime::ZERO);
        match pictures.next(running) {
            Ok(picture) => {
                wait_until(source, picture.pts().unwrap_or(running));
                // Refused only by a pipeline that is about to stop.
                let _ = source.push_buffer(picture);
            }
            Err(why) => {
                tracing::warn!(why, "a stream ended");
                gst::element_error!(source, gst::StreamError::Failed, ("{why}"));
            }
        }
    };
    source.set_callbacks(AppSrcCallbacks::builder().need_data(need_data).build());
}

/// Waits for the moment at which the pipeline's running time is `at`.
fn wait_until(source: &AppSrc, at: gst::ClockTime) {
    if let (Some(clock), Some(base)) = (source.clock(), source.base_time()) {
        // The only failure is that the moment has passed.
        let _ = clock.new_single_shot_id(base + at).wait();
    }
}
