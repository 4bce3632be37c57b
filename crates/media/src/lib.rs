//! Fragmented MP4 segments and plain MP4 clips with the NAL units of the camera.
