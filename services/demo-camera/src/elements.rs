//! What GStreamer must bring along, and the Debian package that brings it.

use gstreamer as gst;

/// Elements that every camera needs.
const NEEDED: [(&str, &str); 10] = [
    ("appsrc", "gstreamer1.0-plugins-base"),
    ("appsink", "gstreamer1.0-plugins-base"),
    ("clockoverlay", "gstreamer1.0-x"),
    ("decodebin", "gstreamer1.0-plugins-base"),
    ("filesrc", "libgstreamer1.0-0"),
    ("rtph264pay", "gstreamer1.0-plugins-good"),
    ("rtpbin", "gstreamer1.0-plugins-good"),
    ("videoconvert", "gstreamer1.0-plugins-base"),
    ("videorate", "gstreamer1.0-plugins-base"),
    ("videoscale", "gstreamer1.0-plugins-base"),
];

/// A part of GStreamer is not installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the GStreamer element `{element}` is missing; install it with: apt-get install {package}")]
pub struct MissingElement {
    /// What is missing.
    pub element: &'static str,
    /// The Debian package that has it.
    pub package: &'static str,
}

/// Whether everything that the camera needs is installed.
///
/// # Errors
/// The first element that is missing, with its package.
pub fn check_elements() -> Result<(), MissingElement> {
    for (element, package) in NEEDED {
        if !is_installed(element) {
            return Err(MissingElement { element, package });
        }
    }
    crate::encoder::Encoder::choose(crate::encoder::Codec::H264).map(|_| ())
}

/// Whether an element of this name can be made.
pub fn is_installed(element: &str) -> bool {
    gst::ElementFactory::find(element).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_element_is_named_with_its_package() {
        let missing = MissingElement { element: "clockoverlay", package: "gstreamer1.0-x" };
        assert!(missing.to_string().contains("apt-get install gstreamer1.0-x"));
    }

    #[test]
    fn this_machine_has_everything() {
        gst::init().unwrap();
        check_elements().unwrap();
        assert!(!is_installed("no-such-element"));
    }
}
