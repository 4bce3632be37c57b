//! The signature of Standard Webhooks: HMAC-SHA256 with a shared secret.

use std::path::Path;

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::feed::{pem, sink::Trouble};

/// How secrets of Standard Webhooks begin.
const PREFIX: &str = "whsec_";

/// A shared secret.
#[derive(Debug)]
pub struct Secret(Key);

impl Secret {
    /// Reads it from a file.
    pub async fn read(file: &Path) -> Result<Self, Trouble> {
        let text = Zeroizing::new(pem::read(file).await?);
        let wrong = || {
            Trouble::Again(format!(
                "{} is not base64 of 24 to 64 bytes, as `openssl rand -base64 32` makes it",
                file.display()
            ))
        };
        let text = std::str::from_utf8(&text).map_err(|_| wrong())?.trim();
        let bytes = STANDARD.decode(text.strip_prefix(PREFIX).unwrap_or(text)).map(Zeroizing::new);
        let bytes = bytes.map_err(|_| wrong())?;
        if !(24..=64).contains(&bytes.len()) {
            return Err(wrong());
        }
        Ok(Self(Key::new(HMAC_SHA256, &bytes)))
    }

    /// The value of `webhook-signature`.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let message = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
        format!("v1,{}", STANDARD.encode(sign(&self.0, &message)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn secret(text: &str) -> Result<Secret, Trouble> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, text).unwrap();
        Secret::read(&file).await
    }

    /// The example of the specification's own libraries.
    #[tokio::test]
    async fn the_signature_is_the_one_of_standard_webhooks() {
        for text in ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
            let signature = secret(text).await.unwrap().sign(
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                br#"{"test": 2432232314}"#,
            );
            assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        }
    }

    #[tokio::test]
    async fn a_short_or_damaged_secret_is_refused_and_not_repeated() {
        for text in ["hunter2", "aHVudGVyMg=="] {
            let trouble = secret(text).await.unwrap_err();
            assert!(trouble.text().contains("base64 of 24 to 64 bytes") && !trouble.text().contains(text));
        }
    }
}
