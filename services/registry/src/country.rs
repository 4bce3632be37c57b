//! Countries and territories, and which of them are not what their flag suggests.
//!
//! The tables were reviewed against Art. 349 and 355 TFEU, Annex II TFEU and the EEA Agreement
//! with its Protocol 40 as they stand in November 2026.

use std::{fmt, str::FromStr};

use crate::words::Invalid;

/// Two capital letters: ISO 3166-1 alpha-2, or one of the codes that ISO reserves (`EA`, `IC`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

impl Country {
    /// The code.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only capital letters get in, so the fallback is never taken.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The state that this territory is an integral part of, so that the law of the Union applies
    /// in it as in the rest of the state.
    #[must_use]
    pub fn state(self) -> Option<Self> {
        let (_, state) = INTEGRAL_PARTS.iter().find(|(code, _)| *code == self.as_str())?;
        state.parse().ok()
    }

    /// Why this territory is not part of the Union or the EEA, where its flag suggests it is.
    #[must_use]
    pub fn remark(self) -> Option<&'static str> {
        APART.iter().find(|(code, _)| *code == self.as_str()).map(|(_, remark)| *remark)
    }
}

/// Territories with a code of their own where Union law applies in full.
const INTEGRAL_PARTS: &[(&str, &str)] = &[
    // Outermost regions, Art. 349 and 355(1) TFEU. Madeira and the Azores have no code of their own.
    ("GF", "FR"),
    ("GP", "FR"),
    ("MF", "FR"),
    ("MQ", "FR"),
    ("RE", "FR"),
    ("YT", "FR"),
    ("IC", "ES"),
    // Ceuta and Melilla: Spanish soil; their exceptions are about customs (Protocol 2 of 1985).
    ("EA", "ES"),
    // Åland, Art. 355(4) TFEU.
    ("AX", "FI"),
];

/// Territories of member states, of EEA states or beside them where Union law does not apply.
const APART: &[(&str, &str)] = &[
    (
        "SJ",
        "Svalbard and Jan Mayen are Norwegian; Svalbard is outside the EEA (Protocol 40 of the EEA Agreement)",
    ),
    ("BV", "Bouvet Island is a Norwegian dependency outside the EEA"),
    ("FO", "the Faroe Islands are Danish but outside the Union (Art. 355(5)(a) TFEU)"),
    ("GL", "Greenland is Danish but outside the Union (overseas territory, Art. 355(2) TFEU)"),
    ("BL", "Saint Barthélemy is a French overseas territory outside the Union since 2012 (Art. 355(2) TFEU)"),
    ("NC", "New Caledonia is a French overseas territory outside the Union (Art. 355(2) TFEU)"),
    ("PF", "French Polynesia is a French overseas territory outside the Union (Art. 355(2) TFEU)"),
    ("PM", "Saint Pierre and Miquelon is a French overseas territory outside the Union (Art. 355(2) TFEU)"),
    ("TF", "the French Southern and Antarctic Lands are outside the Union (Art. 355(2) TFEU)"),
    ("WF", "Wallis and Futuna is a French overseas territory outside the Union (Art. 355(2) TFEU)"),
    ("CP", "Clipperton is a French possession outside the Union"),
    ("AW", "Aruba is a Dutch overseas territory outside the Union (Art. 355(2) TFEU)"),
    (
        "BQ",
        "Bonaire, Sint Eustatius and Saba are Dutch overseas territories outside the Union (Art. 355(2) TFEU)",
    ),
    ("CW", "Curaçao is a Dutch overseas territory outside the Union (Art. 355(2) TFEU)"),
    ("SX", "Sint Maarten is a Dutch overseas territory outside the Union (Art. 355(2) TFEU)"),
    (
        "GB",
        "the United Kingdom left the Union in 2020; it has an adequacy decision, which permits transfers but does not make it part of the EEA",
    ),
    ("GI", "Gibraltar left the Union with the United Kingdom in 2020"),
    ("GG", "Guernsey is a Crown dependency outside the Union"),
    ("IM", "the Isle of Man is a Crown dependency outside the Union"),
    ("JE", "Jersey is a Crown dependency outside the Union"),
    ("CH", "Switzerland is in EFTA but not in the EEA"),
    ("AD", "Andorra is not in the EEA"),
    ("MC", "Monaco is not in the EEA"),
    ("SM", "San Marino is not in the EEA"),
    ("VA", "the Vatican City State is not in the EEA"),
];

impl FromStr for Country {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.as_bytes() {
            [first, second] if first.is_ascii_uppercase() && second.is_ascii_uppercase() => {
                Ok(Self([*first, *second]))
            }
            _ => Err(Invalid::new("the country", "must be two capital letters (ISO 3166-1), for example DE")),
        }
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Country({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn country(code: &str) -> Country {
        code.parse().unwrap()
    }

    #[test]
    fn outermost_regions_and_aland_follow_their_state() {
        for (part, state) in [("RE", "FR"), ("AX", "FI"), ("EA", "ES"), ("IC", "ES"), ("MF", "FR")] {
            assert_eq!(country(part).state(), Some(country(state)));
        }
        assert_eq!(country("FR").state(), None);
    }

    #[test]
    fn no_territory_is_both_an_integral_part_and_apart() {
        for (code, state) in INTEGRAL_PARTS {
            assert!(country(code).remark().is_none(), "{code}");
            assert!(country(state).state().is_none(), "{code}");
        }
        for (code, _) in APART {
            assert!(country(code).state().is_none(), "{code}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_two_capital_letters_or_refused(text in any::<String>()) {
            match text.parse::<Country>() {
                Ok(country) => prop_assert_eq!(country.to_string(), text),
                Err(error) => prop_assert_eq!(error.field, "the country"),
            }
        }
    }
}
