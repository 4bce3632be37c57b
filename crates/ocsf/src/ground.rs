//! Why something about a person is erased: a code and the number of a case, so that no name fits.
//!
//! Whoever is erased would be named by a ground in words, in clear, in the one entry that is kept to prove that
//! they were erased.

use obscura_proto::audit::v1::ErasureGround;

/// Longest number of a case, in bytes.
const MAX_CASE_BYTES: usize = 32;

/// Every ground that somebody may give, with its code for people and what it means.
pub const GROUNDS: [(ErasureGround, &str, &str); 7] = [
    (
        ErasureGround::NoLongerNecessary,
        "no-longer-necessary",
        "no longer necessary for its purpose, Art. 17(1)(a) GDPR",
    ),
    (ErasureGround::ConsentWithdrawn, "consent-withdrawn", "consent was withdrawn, Art. 17(1)(b) GDPR"),
    (ErasureGround::Objection, "objection", "the person objects, Art. 17(1)(c) and 21 GDPR"),
    (ErasureGround::Unlawful, "unlawful", "processed unlawfully, Art. 17(1)(d) GDPR"),
    (ErasureGround::LegalObligation, "legal-obligation", "a legal obligation demands it, Art. 17(1)(e) GDPR"),
    (ErasureGround::Child, "child", "collected from a child for a service offered to it, Art. 17(1)(f) GDPR"),
    (ErasureGround::Order, "order", "ordered by a court or a supervisory authority, Art. 58(2)(g) GDPR"),
];

/// Code and meaning of a ground.
pub(crate) fn described(ground: ErasureGround) -> (&'static str, &'static str) {
    if ground == ErasureGround::RetentionEnded {
        return ("retention-ended", "the retention of the log ended");
    }
    let known = GROUNDS.iter().find(|(known, ..)| *known == ground);
    known.map_or(("", ""), |(_, code, meaning)| (*code, *meaning))
}

/// Whether a person may give this ground.
#[must_use]
pub fn may_be_given(ground: ErasureGround) -> bool {
    GROUNDS.iter().any(|(known, ..)| *known == ground)
}

/// Whether it is the number of a case: 1 to 32 of `0` to `9`, `-`, `/` and `.`, of which the first is a digit.
#[must_use]
pub fn is_case_number(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'/' | b'.');
    text.len() <= MAX_CASE_BYTES
        && text.bytes().all(allowed)
        && text.bytes().next().is_some_and(|first| first.is_ascii_digit())
}

/// Whether it is the code of a ground that a person may give, and behind it nothing or a space and the number of a
/// case: what receipts of early destruction give as their reason.
#[must_use]
pub fn is_reason(text: &str) -> bool {
    let (code, case) = text.split_once(' ').map_or((text, None), |(code, case)| (code, Some(case)));
    GROUNDS.iter().any(|(_, known, _)| *known == code) && case.is_none_or(is_case_number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_ground_of_the_protos_has_a_code_and_only_one_is_not_for_people() {
        for number in 1..=8 {
            let ground = ErasureGround::try_from(number).unwrap();
            let name = ground.as_str_name().trim_start_matches("ERASURE_GROUND_");
            assert_eq!(described(ground).0, name.to_lowercase().replace('_', "-"));
            assert_eq!(may_be_given(ground), ground != ErasureGround::RetentionEnded);
        }
        assert!(ErasureGround::try_from(9).is_err(), "a new ground needs a code");
        assert!(!may_be_given(ErasureGround::Unspecified));
    }

    #[test]
    fn numbers_of_cases_are_taken_and_what_could_name_somebody_is_not() {
        for good in ["7", "2026-117", "117/26", "1.2.3/4-5", &"9".repeat(32)] {
            assert!(is_case_number(good) && is_reason(&format!("order {good}")), "{good}");
        }
        for bad in ["", "-1", "/", "C-131/12", "Li", "12 3", "1\n", "\u{661}", "\u{ff11}", &"9".repeat(33)] {
            assert!(!is_case_number(bad) && !is_reason(&format!("order {bad}")), "{bad}");
        }
        assert!(is_reason("objection"));
        for bad in ["", " ", "Objection", "objection ", "retention-ended", "objection of Erika", "order 1 2"]
        {
            assert!(!is_reason(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_letter_is_ever_in_the_number_of_a_case(text: String) {
            if is_case_number(&text) {
                prop_assert!(!text.chars().any(|character| character.is_alphabetic() || character == ' '));
            }
        }
    }
}
