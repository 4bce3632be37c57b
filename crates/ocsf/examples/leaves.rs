//! Prints the leaf of every example, one a line, for the check against the published schemas.

use std::{
    error::Error,
    io::{Write as _, stdout},
};

use obscura_ocsf::{ExamplePersons, encode, example_source, examples};

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = stdout().lock();
    for event in examples() {
        let leaf = encode(&event, &example_source(), &mut ExamplePersons)?;
        out.write_all(&leaf.bytes)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}
