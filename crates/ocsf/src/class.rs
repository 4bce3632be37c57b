//! The classes of OCSF 1.5.0 that Obscura uses: one table. Only what 1.8.0 has as well.

/// The version that every event names.
pub const VERSION: &str = "1.5.0";

/// A class of OCSF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// `class_uid`; its thousands are `category_uid`.
    pub uid: u32,
    /// Name in the schema's addresses.
    pub name: &'static str,
    /// `class_name`.
    pub caption: &'static str,
    /// Whether it knows `src_endpoint`.
    pub has_endpoint: bool,
    /// What else it wants that follows from the producer or the actor.
    pub wants: Wants,
}

/// What a class wants beside its own fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// Nothing; `actor` where there is one.
    Nothing,
    /// An `actor`: the program itself where no person acted.
    Actor,
    /// `user`, who is the actor too.
    User,
    /// `user`, and the `service` they logged on to.
    UserAndService,
    /// The profile `host` for an `actor`, where there is one.
    HostProfile,
    /// `app`, and the profile `host` for an `actor`.
    AppAndHostProfile,
}

impl Class {
    /// `category_uid`.
    pub const fn category(self) -> u32 {
        self.uid / 1_000
    }

    /// Whether an actor needs the profile `host`.
    pub fn needs_host_profile(self) -> bool {
        matches!(self.wants, Wants::HostProfile | Wants::AppAndHostProfile)
    }

    /// Whether it has `user` beside `actor`.
    pub fn has_user(self) -> bool {
        matches!(self.wants, Wants::User | Wants::UserAndService)
    }

    /// Address of its schema.
    pub fn schema(self) -> String {
        format!("https://schema.ocsf.io/{VERSION}/classes/{}", self.name)
    }

    const fn new(uid: u32, name: &'static str, caption: &'static str, wants: Wants) -> Self {
        let has_endpoint = !matches!(wants, Wants::HostProfile | Wants::AppAndHostProfile);
        Self { uid, name, caption, has_endpoint, wants }
    }
}

/// An event log itself: overflow, tests, heartbeats. (The schema spells its name so.)
pub const EVENT_LOG: Class = Class::new(1008, "event_log_actvity", "Event Log Activity", Wants::Nothing);
/// Something that a person must look at.
pub const DETECTION_FINDING: Class =
    Class::new(2004, "detection_finding", "Detection Finding", Wants::HostProfile);
/// Log-on and log-off.
pub const AUTHENTICATION: Class = Class::new(3002, "authentication", "Authentication", Wants::UserAndService);
/// Decisions about grants.
pub const AUTHORIZE_SESSION: Class = Class::new(3003, "authorize_session", "Authorize Session", Wants::User);
/// Changes of things: configuration, keys, holds, footage.
pub const ENTITY_MANAGEMENT: Class =
    Class::new(3004, "entity_management", "Entity Management", Wants::Nothing);
/// Start and stop of services.
pub const APPLICATION_LIFECYCLE: Class =
    Class::new(6002, "application_lifecycle", "Application Lifecycle", Wants::AppAndHostProfile);
/// Reading, searching and storing footage.
pub const DATASTORE_ACTIVITY: Class =
    Class::new(6005, "datastore_activity", "Datastore Activity", Wants::Actor);
/// Footage that leaves as a file.
pub const FILE_HOSTING: Class = Class::new(6006, "file_hosting", "File Hosting Activity", Wants::Actor);
