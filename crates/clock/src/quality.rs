use serde::{Deserialize, Serialize};

/// How well the recorder knew the wall time of what it recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum ClockQuality {
    /// The recorder's clock was synchronised and the camera agreed with it.
    Synchronised = 1,
    /// The recorder's clock was not known to be synchronised.
    FreeRunning = 2,
    /// The recorder's clock was stepped nearby.
    Stepped = 3,
}

impl ClockQuality {
    /// The quality with this code in trailers and messages.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Synchronised),
            2 => Some(Self::FreeRunning),
            3 => Some(Self::Stepped),
            _ => None,
        }
    }

    /// The code in trailers and messages.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_read_back() {
        for quality in [ClockQuality::Synchronised, ClockQuality::FreeRunning, ClockQuality::Stepped] {
            assert_eq!(ClockQuality::from_code(quality.code()), Some(quality));
        }
        assert_eq!(ClockQuality::from_code(9), None);
    }
}
