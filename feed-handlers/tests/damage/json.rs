//! Damaged frames of JSON, and what may be asked of their decoders, with serde_json as the other reader.

use feed_handlers::decode::DecodeError;
use feed_handlers::decode::event::{Event, Top};
use proptest::prelude::*;
use serde_json::Value;

use super::{OF_JSON, damaged, is, is_beside_the_grammar, numbers, stands_in};

/// What a decoder says to a frame.
pub(crate) type Outcome<'a> = Result<Vec<Event<'a>>, DecodeError>;

/// One of `frames`, damaged, or any bytes at all: they must be no panic either.
pub(crate) fn json_frames<F: AsRef<[u8]>>(frames: &[F]) -> impl Strategy<Value = Vec<u8>> + use<F> {
    let frames = frames.iter().map(|frame| frame.as_ref().to_vec()).collect();
    prop_oneof![7 => damaged(frames, OF_JSON), 1 => any::<Vec<u8>>()]
}

/// What must hold of any reader of JSON: no number that is not in the frame, and nothing taken for JSON that another parser
/// refuses. Returns what that one finds.
pub(crate) fn check_json(frame: &[u8], outcome: &Outcome<'_>) -> Result<Option<Value>, TestCaseError> {
    for number in outcome.iter().flatten().flat_map(numbers) {
        prop_assert!(stands_in(frame, number), "{number} in {}", frame.escape_ascii());
    }
    check_grammar(frame, outcome)
}

/// Nothing is taken for JSON that another parser refuses. Returns what that one finds.
pub(crate) fn check_grammar(frame: &[u8], outcome: &Outcome<'_>) -> Result<Option<Value>, TestCaseError> {
    match serde_json::from_slice(frame) {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            let is_beside = is_beside_the_grammar(frame, &error);
            prop_assert!(outcome.is_err() || is_beside, "{error}: {}", frame.escape_ascii());
            Ok(None)
        }
    }
}

/// Whatever is read says something.
pub(crate) fn check_is_told(frame: &[u8], outcome: &Outcome<'_>) -> Result<(), TestCaseError> {
    // A number alone says nothing of what the message holds.
    let is_silent = |events: &Vec<Event<'_>>| events.iter().all(|event| matches!(event, Event::LineSequence(_)));
    prop_assert!(!outcome.as_ref().is_ok_and(is_silent), "nothing is said of {}", frame.escape_ascii());
    Ok(())
}

/// Of a frame that is a list: each element becomes one event, in which nothing stands that is not in the element.
pub(crate) fn check_list(
    frame: &[u8],
    outcome: Outcome<'_>,
    agrees: fn(&Value, &Event<'_>) -> bool,
) -> Result<(), TestCaseError> {
    match check_json(frame, &outcome)? {
        Some(Value::Array(elements)) => check_elements(frame, &elements, outcome, agrees),
        Some(_) => {
            prop_assert!(outcome.is_err(), "{outcome:?}");
            Ok(())
        }
        None => Ok(()),
    }
}

/// Each of the elements became one event, in which nothing stands that is not in the element.
pub(crate) fn check_elements(
    frame: &[u8],
    elements: &[Value],
    outcome: Outcome<'_>,
    agrees: fn(&Value, &Event<'_>) -> bool,
) -> Result<(), TestCaseError> {
    let events = outcome.map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(events.len(), elements.len().max(1), "{}", frame.escape_ascii());
    if !may_hide_a_key(frame) {
        for (element, event) in elements.iter().zip(&events) {
            prop_assert!(agrees(element, event), "{event:?} of {element}");
        }
    }
    Ok(())
}

/// Of a frame with elements somewhere in it: what is said stands in one of them, if there are any.
pub(crate) fn check_is_found(
    frame: &[u8],
    outcome: &Outcome<'_>,
    elements: for<'a> fn(&'a Value) -> Vec<&'a Value>,
    agrees: fn(&Value, &Event<'_>) -> bool,
) -> Result<(), TestCaseError> {
    check_is_told(frame, outcome)?;
    if let Some(value) = check_json(frame, outcome)?.filter(|_| !may_hide_a_key(frame)) {
        let elements = elements(&value);
        for event in outcome.iter().flatten() {
            let is_found = elements.is_empty() || elements.iter().any(|element| agrees(element, event));
            prop_assert!(is_found, "{event:?} in {}", frame.escape_ascii());
        }
    }
    Ok(())
}

/// Whether an escape may hide a key from us.
pub(crate) fn may_hide_a_key(frame: &[u8]) -> bool {
    frame.contains(&b'\\')
}

/// What is said of frames as they came: something of each, and nothing invalid. The strategies must not be so rough that
/// nothing they make is ever read.
pub(crate) fn undamaged<'a, F: AsRef<[u8]>>(
    frames: &'a [F],
    read: for<'f> fn(&'f [u8]) -> Outcome<'f>,
) -> Vec<Event<'a>> {
    let events = frames.iter().flat_map(|frame| {
        let events = read(frame.as_ref()).unwrap();
        assert!(!events.is_empty(), "{}", frame.as_ref().escape_ascii());
        assert!(!events.iter().any(|event| matches!(event, Event::Invalid { .. })), "{events:?}");
        events
    });
    events.collect()
}

/// Whether another parser finds the side of a quote in its fields, as far as there is one.
pub(crate) fn is_top(element: &Value, top: Option<Top>, price: &str, size: &str) -> bool {
    top.is_none_or(|top| is(&element[price], top.price) && top.size.is_none_or(|s| is(&element[size], s)))
}
