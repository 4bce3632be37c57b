//! Bytes as groups of symbols for paper.
//!
//! Five symbols of Crockford's base 32 (no I, L, O, U; case does not matter) a group: four carry 20
//! bits, the fifth is their check. It is a polynomial over GF(32) in the symbols plus the number of
//! the group: any one wrong symbol and any two swapped ones are found, and so is a group in the place
//! of another.

use zeroize::Zeroizing;

use crate::Error;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const DATA_SYMBOLS: usize = 4;
const GROUP_SYMBOLS: usize = DATA_SYMBOLS + 1;
/// A share of the longest zone name has 35.
const MAX_GROUPS: usize = 64;

/// The bytes as groups with a space between them; the last is filled up with zero bits.
pub(crate) fn encode(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 3 + GROUP_SYMBOLS + 1));
    let symbols = Zeroizing::new(symbols(bytes));
    for (number, group) in symbols.chunks(DATA_SYMBOLS).enumerate() {
        if number > 0 {
            text.push(' ');
        }
        let missing = std::iter::repeat_n(&0, DATA_SYMBOLS.saturating_sub(group.len()));
        let group: Vec<u8> = group.iter().chain(missing).copied().collect();
        group.iter().for_each(|symbol| text.push(letter(*symbol)));
        text.push(letter(check(&group, number)));
    }
    text
}

/// Reads groups, with whatever stands between them. Gives at least the bytes that were encoded; zero
/// bits that filled the last group may appear as one or two bytes more.
pub(crate) fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    let groups: Vec<&str> =
        text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty()).collect();
    if groups.is_empty() || groups.len() > MAX_GROUPS {
        return Err(Error::Groups(groups.len()));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(groups.len() * 3));
    let (mut bits, mut pending) = (0_u32, 0_u32);
    for (number, group) in groups.iter().enumerate() {
        for symbol in read_group(group, number).ok_or(Error::Typo(number + 1))? {
            bits = (bits << 5 | u32::from(symbol)) & 0xfff;
            pending += 5;
            if pending >= 8 {
                pending -= 8;
                bytes.extend((bits >> pending).to_be_bytes().last());
            }
        }
    }
    Ok(bytes)
}

/// The bytes five bits at a time.
fn symbols(bytes: &[u8]) -> Vec<u8> {
    let mut symbols = Vec::with_capacity(bytes.len() * 8 / 5 + 1);
    let (mut bits, mut pending) = (0_u32, 0_u32);
    for byte in bytes {
        bits = (bits << 8 | u32::from(*byte)) & 0xfff;
        pending += 8;
        while pending >= 5 {
            pending -= 5;
            symbols.extend((bits >> pending & 31).to_be_bytes().last());
        }
    }
    if pending > 0 {
        symbols.extend((bits << (5 - pending) & 31).to_be_bytes().last());
    }
    symbols
}

fn read_group(group: &str, number: usize) -> Option<[u8; DATA_SYMBOLS]> {
    let symbols = group.bytes().map(symbol).collect::<Option<Vec<u8>>>()?;
    let [a, b, c, d, checked] = symbols.try_into().ok()?;
    let data = [a, b, c, d];
    (check(&data, number) == checked).then_some(data)
}

fn letter(symbol: u8) -> char {
    ALPHABET.get(usize::from(symbol)).map_or('?', |letter| char::from(*letter))
}

/// What is easily misread is read as what it was.
fn symbol(letter: u8) -> Option<u8> {
    let letter = match letter.to_ascii_uppercase() {
        b'O' => b'0',
        b'I' | b'L' => b'1',
        other => other,
    };
    u8::try_from(ALPHABET.iter().position(|known| *known == letter)?).ok()
}

/// The symbols as a polynomial at a primitive element, plus the number of the group.
fn check(symbols: &[u8], number: usize) -> u8 {
    let sum = symbols.iter().fold(0, |sum, symbol| times_alpha(sum ^ symbol));
    sum ^ u8::try_from(number % 32).unwrap_or_default()
}

/// Multiplication by the root of x^5 + x^2 + 1.
const fn times_alpha(element: u8) -> u8 {
    let carry = element >> 4 & 1;
    (element << 1 & 31) ^ (carry * 0b101)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_element_is_primitive() {
        let mut powers: Vec<u8> =
            std::iter::successors(Some(1), |power| Some(times_alpha(*power))).take(31).collect();
        powers.sort_unstable();
        assert_eq!(powers, (1..32).collect::<Vec<u8>>());
    }

    #[test]
    fn what_is_easily_misread_is_understood() {
        let text = encode(&[0, 0x04, 0x20]);
        assert_eq!(decode(&text.replace('0', "o").replace('1', "l")).unwrap()[..3], [0, 0x04, 0x20]);
    }

    proptest! {
        #[test]
        fn bytes_read_back_whatever_stands_between_the_groups(
            bytes in prop::collection::vec(any::<u8>(), 1..90), between in "[-\n ./]{1,3}",
        ) {
            let text = encode(&bytes).replace(' ', &between).to_lowercase();
            let read = decode(&text).unwrap();
            prop_assert_eq!(&read[..bytes.len()], &bytes[..]);
            prop_assert!(read[bytes.len()..].iter().all(|byte| *byte == 0) && read.len() <= bytes.len() + 2);
        }

        #[test]
        fn a_wrong_symbol_is_found_in_its_group(bytes in prop::collection::vec(any::<u8>(), 1..90), at: prop::sample::Index, by in 1..32_u8) {
            let text = encode(&bytes);
            let at = at.index(text.len());
            let letter = text.as_bytes()[at];
            prop_assume!(letter != b' ');
            let wrong = super::letter(symbol(letter).unwrap() ^ by);
            let typed = format!("{}{wrong}{}", &text[..at], &text[at + 1..]);
            prop_assert_eq!(decode(&typed).unwrap_err(), Error::Typo(at / 6 + 1));
        }

        #[test]
        fn two_swapped_symbols_are_found_in_their_group(bytes in prop::collection::vec(any::<u8>(), 1..90), at: prop::sample::Index, first in 0..5_usize, second in 0..5_usize) {
            let text = encode(&bytes);
            let group = at.index(text.len().div_ceil(6));
            let mut letters = text.as_bytes().to_vec();
            let (first, second) = (group * 6 + first, group * 6 + second);
            prop_assume!(letters[first] != letters[second]);
            letters.swap(first, second);
            prop_assert_eq!(decode(str::from_utf8(&letters).unwrap()).unwrap_err(), Error::Typo(group + 1));
        }

        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
            let _ = decode(&text);
        }
    }
}
