use std::thread;

use anyhow::{Context, bail};
use gstreamer::{self as gst, glib, prelude::*};
use gstreamer_app::AppSrc;
use gstreamer_rtsp_server::{
    RTSPAuth, RTSPMedia, RTSPMediaFactory, RTSPMountPoints, RTSPServer, RTSPToken, gst_rtsp, prelude::*,
};

use crate::{
    Arguments, Authentication,
    arguments::Method,
    encoder::{ENCODER, Encoder},
    feed::{Pictures, feed},
    scene::pictures::ScenePictures,
};

/// Name of the element that is fed with pictures.
const SOURCE: &str = "source";
const ROLE: &str = "viewer";
const KEY_FRAME_SECONDS: u32 = 2;
const SCENE_KILOBITS_PER_SECOND: u32 = 1500;
const VIDEO_KILOBITS_PER_SECOND: u32 = 2500;
/// Largest body of a request, in bytes.
const MAX_REQUEST_BYTES: u32 = 16 * 1024;
/// Most RTSP sessions at a time.
const MAX_SESSIONS: u32 = 256;

/// The RTSP server with its mounts, and the thread that serves it.
#[derive(Debug)]
pub struct Server {
    address: String,
    main_loop: glib::MainLoop,
    mounts: RTSPMountPoints,
    encoder: Encoder,
}

impl Server {
    /// Listens on 127.0.0.1 and mounts the scene.
    ///
    /// # Errors
    /// When the port is taken, or an argument makes no sense.
    pub fn start(arguments: &Arguments) -> anyhow::Result<Self> {
        let rtsp = RTSPServer::new();
        rtsp.set_address("127.0.0.1");
        rtsp.set_service(&arguments.port.to_string());
        rtsp.set_content_length_limit(MAX_REQUEST_BYTES);
        if let Some(authentication) = arguments.authentication()? {
            rtsp.set_auth(Some(&auth(&authentication)));
        }
        let mounts = rtsp.mount_points().context("the RTSP server has no mount points")?;
        let server = Self {
            address: String::new(),
            main_loop: glib::MainLoop::new(None, false),
            mounts,
            encoder: Encoder::choose(arguments.codec)?,
        };
        server.mount_scene(arguments)?;
        server.listen(&rtsp, arguments.port)
    }

    fn listen(self, rtsp: &RTSPServer, port: u16) -> anyhow::Result<Self> {
        // The source stays attached for as long as the process lives.
        if let Err(error) = rtsp.attach(None) {
            bail!("cannot listen on 127.0.0.1:{port}: {error}; is the port taken?");
        }
        let sessions = rtsp.session_pool().context("the RTSP server has no session pool")?;
        sessions.set_max_sessions(MAX_SESSIONS);
        glib::timeout_add_seconds(5, move || {
            // Sessions of viewers that vanished without a word.
            sessions.cleanup();
            glib::ControlFlow::Continue
        });
        let main_loop = self.main_loop.clone();
        thread::Builder::new().name("rtsp".to_owned()).spawn(move || main_loop.run())?;
        Ok(Self { address: format!("127.0.0.1:{}", rtsp.bound_port()), ..self })
    }

    /// host:port
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Ends the thread that serves.
    pub fn stop(&self) {
        self.main_loop.quit();
    }

    fn mount_scene(&self, arguments: &Arguments) -> anyhow::Result<()> {
        let size = arguments.size()?;
        let fps = arguments.fps;
        let font = (size.height() / 52).max(7);
        let overlay = format!(
            "clockoverlay halignment=left valignment=top shaded-background=true \
             time-format=\"%Y-%m-%d %H:%M:%S\" font-desc=\"Monospace {font}\""
        );
        let launch =
            format!("appsrc name={SOURCE} ! {overlay} ! {}", self.encoder.launch(SCENE_KILOBITS_PER_SECOND));
        self.mount("/scene", &launch, move || Ok(ScenePictures::new(size, fps)));
        Ok(())
    }

    /// Mounts pictures that `open` provides with their format, anew for each time that somebody begins
    /// to watch.
    pub(crate) fn mount_video<P, F>(&self, name: &str, open: F)
    where
        P: Pictures + Source,
        F: Fn() -> anyhow::Result<P> + Send + Sync + 'static,
    {
        let launch = format!("appsrc name={SOURCE} ! {}", self.encoder.launch(VIDEO_KILOBITS_PER_SECOND));
        self.mount(&format!("/video/{name}"), &launch, open);
    }

    pub(crate) fn unmount_video(&self, name: &str) {
        self.mounts.remove_factory(&format!("/video/{name}"));
    }

    fn mount<P, F>(&self, path: &str, launch: &str, open: F)
    where
        P: Pictures + Source,
        F: Fn() -> anyhow::Result<P> + Send + Sync + 'static,
    {
        let factory = RTSPMediaFactory::new();
        factory.set_launch(&format!("( {launch} )"));
        factory.set_shared(true);
        factory.set_protocols(gst_rtsp::RTSPLowerTrans::TCP | gst_rtsp::RTSPLowerTrans::UDP);
        let role = gst::Structure::builder(ROLE)
            .field("media.factory.access", true)
            .field("media.factory.construct", true)
            .build();
        factory.add_role_from_structure(&role);
        let (encoder, path_of_media) = (self.encoder, path.to_owned());
        factory.connect_media_configure(move |_, media| {
            if let Err(error) = configure(media, encoder, &open) {
                tracing::warn!(path = path_of_media, "cannot be shown: {error:#}");
                let element = media.element();
                gst::element_error!(element, gst::ResourceError::OpenRead, ("{error:#}"));
            }
        });
        self.mounts.add_factory(path, factory);
    }
}

/// Pictures that know their format.
pub trait Source {
    /// Raw video with width, height and frame rate.
    fn caps(&self) -> gst::Caps;
}

fn configure<P: Pictures + Source>(
    media: &RTSPMedia,
    encoder: Encoder,
    open: impl Fn() -> anyhow::Result<P>,
) -> anyhow::Result<()> {
    let bin = media.element().downcast::<gst::Bin>().ok().context("the media is not a bin")?;
    let element = bin.by_name(SOURCE).context("the media has no source")?;
    let source = element.downcast::<AppSrc>().ok().context("the source is not an appsrc")?;
    let pictures = open()?;
    let caps = pictures.caps();
    if let Some(encoder_element) = bin.by_name(ENCODER) {
        let frames = frames_in(&caps, KEY_FRAME_SECONDS).to_string();
        encoder_element.set_property_from_str(encoder.key_frame_property(), &frames);
    }
    source.set_caps(Some(&caps));
    source.set_is_live(true);
    source.set_format(gst::Format::Time);
    feed(&source, pictures);
    Ok(())
}

/// Frames in so many seconds; 25 a second where the rate is not known.
fn frames_in(caps: &gst::Caps, seconds: u32) -> u32 {
    let rate = caps.structure(0).and_then(|structure| structure.get::<gst::Fraction>("framerate").ok());
    let frames = match rate.map(|rate| (u32::try_from(rate.numer()), u32::try_from(rate.denom()))) {
        Some((Ok(numerator), Ok(denominator))) if numerator > 0 && denominator > 0 => {
            numerator.saturating_mul(seconds) / denominator
        }
        _ => 25 * seconds,
    };
    frames.max(1)
}

fn auth(authentication: &Authentication) -> RTSPAuth {
    let auth = RTSPAuth::new();
    let token = RTSPToken::builder().field("media.factory.role", ROLE).build();
    match authentication.method {
        Method::Digest => {
            auth.set_supported_methods(gst_rtsp::RTSPAuthMethod::Digest);
            auth.add_digest(&authentication.user, &authentication.password, &token);
        }
        Method::Basic => {
            auth.set_supported_methods(gst_rtsp::RTSPAuthMethod::Basic);
            auth.add_basic(&RTSPAuth::make_basic(&authentication.user, &authentication.password), &token);
        }
    }
    auth
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(rate: gst::Fraction) -> gst::Caps {
        gst::init().unwrap();
        gst::Caps::builder("video/x-raw").field("framerate", rate).build()
    }

    #[test]
    fn a_key_frame_comes_every_two_seconds_whatever_the_rate() {
        assert_eq!(frames_in(&caps(gst::Fraction::new(15, 1)), 2), 30);
        assert_eq!(frames_in(&caps(gst::Fraction::new(30_000, 1001)), 2), 59);
        assert_eq!(frames_in(&caps(gst::Fraction::new(0, 1)), 2), 50);
        assert_eq!(frames_in(&caps(gst::Fraction::new(1, 100)), 2), 1);
    }
}
