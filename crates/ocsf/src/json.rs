//! The JSON of a leaf: objects in the order of RFC 8785 from the beginning.
//!
//! A canonicalizer takes any JSON, parses every name again and sorts what is sorted already; it was the largest
//! single cost of an append. Ours is simpler: names are ASCII and known when this is compiled, so that the order
//! of their bytes is that of their UTF-16 code units (section 3.2.3), and numbers are integers below 2^53, which
//! are written as everybody writes them (section 3.2.2.3). Texts are escaped by `serde_json` as section 3.2.2.2
//! wants. That the result is canonical is tested against a library for it.

use std::borrow::Cow;

use serde::{Serialize, Serializer};

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json<'a> {
    /// Nothing is known: fields with it are left out.
    Nothing,
    /// `true` or `false`.
    Flag(bool),
    /// An integer, at most 2^53 - 1.
    Number(u64),
    /// Text.
    Text(Cow<'a, str>),
    /// Values in their order.
    List(Vec<Self>),
    /// Values by name.
    Object(Object<'a>),
}

/// Values by name, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object<'a>(Vec<(&'static str, Json<'a>)>);

impl<'a> Json<'a> {
    /// Whether there is nothing to write: no value, no text, no element.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Text(text) => text.is_empty(),
            Self::List(values) => values.is_empty(),
            Self::Flag(_) | Self::Number(_) | Self::Object(_) => false,
        }
    }
}

impl<'a> Object<'a> {
    /// Puts a value under a name.
    pub fn insert(&mut self, name: &'static str, value: impl Into<Json<'a>>) {
        if let Some(at) = self.entry(name) {
            *at = value.into();
        }
    }

    /// Puts a value at a JSON pointer and makes the objects on the way. Our pointers have no arrays and no
    /// escapes in them.
    pub fn set(&mut self, pointer: &'static str, value: impl Into<Json<'a>>) {
        self.put(pointer.trim_start_matches('/'), value.into());
    }

    fn put(&mut self, path: &'static str, value: Json<'a>) {
        let Some((name, rest)) = path.split_once('/') else { return self.insert(path, value) };
        let Some(at) = self.entry(name) else { return };
        if !matches!(at, Json::Object(_)) {
            *at = Json::Object(Object::default());
        }
        if let Json::Object(inner) = at {
            inner.put(rest, value);
        }
    }

    /// Where the value of this name is or belongs; there always is such a place.
    fn entry(&mut self, name: &'static str) -> Option<&mut Json<'a>> {
        debug_assert!(name.is_ascii(), "the order of bytes is that of UTF-16 code units in ASCII only");
        let place = self.place(name).unwrap_or_else(|place| {
            self.0.insert(place, (name, Json::Nothing));
            place
        });
        self.0.get_mut(place).map(|(_, value)| value)
    }

    /// The value under a name.
    pub fn get(&self, name: &str) -> Option<&Json<'a>> {
        let place = self.place(name).ok()?;
        self.0.get(place).map(|(_, value)| value)
    }

    /// Whether there is no value.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes of RFC 8785.
    pub fn to_canonical(&self) -> Result<Vec<u8>, serde_json::Error> {
        /// Most leaves are shorter.
        const USUAL_BYTES: usize = 2_048;
        let mut bytes = Vec::with_capacity(USUAL_BYTES);
        serde_json::to_writer(&mut bytes, self)?;
        Ok(bytes)
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| (*other).cmp(name))
    }
}

impl<'a, const N: usize> From<[(&'static str, Json<'a>); N]> for Object<'a> {
    fn from(values: [(&'static str, Json<'a>); N]) -> Self {
        let mut object = Self(Vec::with_capacity(N));
        for (name, value) in values {
            object.insert(name, value);
        }
        object
    }
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nothing => serializer.serialize_unit(),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(values) => serializer.collect_seq(values),
            Self::Object(object) => object.serialize(serializer),
        }
    }
}

impl From<bool> for Json<'_> {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<u32> for Json<'_> {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u64> for Json<'_> {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl<'a> From<&'a str> for Json<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

impl<'a> From<&'a String> for Json<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Json<'_> {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl<'a> From<Object<'a>> for Json<'a> {
    fn from(object: Object<'a>) -> Self {
        Self::Object(object)
    }
}

impl<'a, T: Into<Json<'a>>, const N: usize> From<[T; N]> for Json<'a> {
    fn from(values: [T; N]) -> Self {
        values.into_iter().collect()
    }
}

impl<'a, T: Into<Json<'a>>> FromIterator<T> for Json<'a> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// Names that stand in each other's way: one is the beginning of another, and pointers are names too.
    const NAMES: [&str; 9] = ["a", "ab", "b", "A", "_", "a_b", "/a/b", "0", "uid"];

    fn values() -> impl Strategy<Value = Json<'static>> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Json::from),
            (0..=(1_u64 << 53) - 1).prop_map(Json::from),
            ".{0,12}".prop_map(Json::from),
            prop::collection::vec(any::<char>(), 0..6)
                .prop_map(|text| Json::from(text.into_iter().collect::<String>())),
            (0..0x20_u8).prop_map(|control| Json::from(char::from(control).to_string())),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            let named = (prop::sample::select(&NAMES[..]), inner.clone());
            prop_oneof![
                prop::collection::vec(inner, 0..6).prop_map(|values| values.into_iter().collect()),
                prop::collection::vec(named, 0..8).prop_map(|values| {
                    let mut object = Object::default();
                    values.into_iter().for_each(|(name, value)| object.insert(name, value));
                    Json::Object(object)
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_bytes_are_those_of_a_canonicalizer(value in values()) {
            let ours = Object::from([("value", value)]).to_canonical().unwrap();
            let parsed: Value = serde_json::from_slice(&ours).unwrap();
            let theirs = serde_json_canonicalizer::to_vec(&parsed).unwrap();
            prop_assert_eq!(String::from_utf8(ours).unwrap(), String::from_utf8(theirs).unwrap());
        }
    }

    #[test]
    fn a_value_is_where_its_pointer_says_whatever_was_there() {
        let mut object = Object::default();
        object.set("/b/c", "first");
        object.set("/a", "text");
        object.set("/a/x", 7_u32);
        object.set("/b/c", "second");
        object.set("/b/a", true);
        let bytes = object.to_canonical().unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), r#"{"a":{"x":7},"b":{"a":true,"c":"second"}}"#);
        assert_eq!(object.get("missing"), None);
    }
}
