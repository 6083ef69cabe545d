//! Names of shares.
//!
//! The United States have three conventions for what follows a ticker; Nasdaq's and the tape's go into one here, that of
//! the tape with dots, but for preferred shares, which keep Nasdaq's dash: as written with the letters that a symbol may have,
//! and neither collides with the other. A class has one letter, a suffix two or more, but for `.U`: the tape writes units and
//! a class U alike, so there cannot be both of one company.

use super::{NameError, SymbolWriter};

/// What Nasdaq's marks mean, in the words of the tape.
const NASDAQ_MARKS: [(u8, &str); 10] = [
    (b'+', ".WS"),
    (b'=', ".U"),
    (b'^', ".RT"),
    (b'#', ".WI"),
    (b'$', ".WD"),
    (b'*', ".CL"),
    (b'!', ".EC"),
    (b'@', ".PP"),
    (b'%', ".CV"),
    (b'~', ".TEST"),
];

/// What the tape's small letters mean, behind capitals.
const TAPE_LETTERS: [(u8, &str); 3] = [(b'p', "-"), (b'r', ".RT"), (b'w', ".WI")];

fn meaning<'t>(table: &[(u8, &'t str)], byte: u8) -> Option<&'t str> {
    table.iter().find(|(known, _)| *known == byte).map(|(_, meaning)| *meaning)
}

/// Writes the symbol of a share of the United States.
pub(super) fn write_us(name: &[u8], out: &mut SymbolWriter<'_>) -> Result<(), NameError> {
    if let Some(byte) = name.first().filter(|byte| !byte.is_ascii_alphanumeric()) {
        return Err(NameError::Byte { byte: *byte });
    }
    // Small letters mean something only beside capitals: `aapl` is `AAPL` typed by hand.
    let has_capitals = name.iter().any(u8::is_ascii_uppercase);
    let mut rest = name;
    while let [byte, tail @ ..] = rest {
        if is_preferred(rest) {
            out.push(b'-')?;
            rest = &rest[3..];
            continue;
        }
        rest = tail;
        match *byte {
            small @ b'a'..=b'z' if has_capitals => {
                let meaning = meaning(&TAPE_LETTERS, small).ok_or(NameError::Byte { byte: small })?;
                out.push_all(meaning.as_bytes())?;
            }
            plain if plain.is_ascii_alphanumeric() => out.push(plain.to_ascii_uppercase())?,
            b'.' | b'-' => out.push(*byte)?,
            mark => {
                let meaning = meaning(&NASDAQ_MARKS, mark).ok_or(NameError::Byte { byte: mark })?;
                out.push_all(meaning.as_bytes())?;
                // `+A` is the class A of the warrants: `.WS.A`.
                if tail.first().is_some_and(u8::is_ascii_alphanumeric) {
                    out.push(b'.')?;
                }
            }
        }
    }
    Ok(())
}

/// Whether `.PR` is next, with a class of one letter or none: the tape's preferred shares as written with capitals only.
fn is_preferred(rest: &[u8]) -> bool {
    match rest {
        [b'.', b'P' | b'p', b'R' | b'r', tail @ ..] => match tail {
            [] | [b'.', ..] => true,
            [class] => class.is_ascii_alphabetic(),
            [class, b'.', ..] => class.is_ascii_alphabetic(),
            _ => false,
        },
        _ => false,
    }
}

/// Writes the symbol of an instrument of an Indian exchange. Their names have neither dots nor underscores, so no two
/// become one.
pub(super) fn write_india(name: &[u8], out: &mut SymbolWriter<'_>) -> Result<(), NameError> {
    for byte in name {
        out.push(match byte {
            b'&' => b'_',
            b' ' => b'.',
            b'-' => b'-',
            plain if plain.is_ascii_alphanumeric() => plain.to_ascii_uppercase(),
            other => return Err(NameError::Byte { byte: *other }),
        })?;
    }
    Ok(())
}
