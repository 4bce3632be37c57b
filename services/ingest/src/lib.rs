//! Records cameras: RTSP, rings, segments, sealing, spool, upload.
