//! Numbers as C2SP writes them: ASCII decimal without leading zeroes.

/// The number, if it is written in its one way.
pub fn parse(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_has_one_spelling() {
        for text in ["", "00", "01", "+1", "-0", " 1", "1 ", "1\n", "0x1", "18446744073709551616", "١"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn numbers_read_back(number: u64) {
            prop_assert_eq!(parse(&number.to_string()), Some(number));
        }
    }
}
