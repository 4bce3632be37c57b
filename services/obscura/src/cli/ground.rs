//! Why something is destroyed before its time: a code and the number of a case, so that nobody is named.

use clap::{
    Args,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};
use obscura_ocsf::ground::{GROUNDS, is_case_number};
use obscura_proto::audit::v1::ErasureGround;

/// Arguments of commands that destroy.
#[derive(Clone, Debug, Args)]
pub struct Ground {
    /// Why. A code and not words: it stays in the audit log in clear
    #[arg(long, value_name = "CODE", value_parser = codes())]
    ground: Code,
    /// Number of the case, for example 117/26: digits, `-`, `/` and `.`
    #[arg(long = "case", value_name = "NUMBER", value_parser = case_number)]
    case_number: Option<String>,
}

impl Ground {
    /// The code.
    pub fn code(&self) -> ErasureGround {
        self.ground.0
    }

    /// The number of the case; empty where none was given.
    pub fn case_number(&self) -> String {
        self.case_number.clone().unwrap_or_default()
    }

    /// Both, as receipts of destruction give them.
    pub fn reason(&self) -> String {
        let case = self.case_number.iter().map(String::as_str);
        std::iter::once(self.ground.1).chain(case).collect::<Vec<_>>().join(" ")
    }
}

/// A ground with its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Code(ErasureGround, &'static str);

/// Takes the codes, and lists them with what they mean.
fn codes() -> impl TypedValueParser<Value = Code> {
    let known = GROUNDS.map(|(_, code, meaning)| PossibleValue::new(code).help(meaning));
    PossibleValuesParser::new(known).try_map(|text| {
        let found = GROUNDS.iter().find(|(_, code, _)| *code == text);
        found.map(|(ground, code, _)| Code(*ground, code)).ok_or("not a ground")
    })
}

fn case_number(text: &str) -> Result<String, &'static str> {
    if is_case_number(text) {
        return Ok(text.to_owned());
    }
    Err("expected at most 32 digits, `-`, `/` and `.` that begin with a digit: nobody may be named here")
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use obscura_ocsf::ground::is_reason;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        ground: Ground,
    }

    fn parse(arguments: &[&str]) -> Result<Ground, clap::Error> {
        Command::try_parse_from([&["x"], arguments].concat()).map(|command| command.ground)
    }

    #[test]
    fn every_ground_is_offered_with_what_it_means_and_gives_a_reason_that_is_taken() {
        let help = <Command as clap::CommandFactory>::command().render_long_help().to_string();
        // Long lines are wrapped.
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for (ground, code, meaning) in GROUNDS {
            assert!(help.contains(code) && help.contains(meaning), "{help}");
            for case in [&[][..], &["--case", "117/26"]] {
                let parsed = parse(&[&["--ground", code], case].concat()).unwrap();
                assert_eq!(parsed.code(), ground);
                assert!(is_reason(&parsed.reason()), "{}", parsed.reason());
            }
        }
    }

    #[test]
    fn no_name_fits() {
        for wrong in [
            &["--ground", "left the company"][..],
            &["--ground", "order", "--case", "Mustermann"],
            &["--case", "117/26"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
