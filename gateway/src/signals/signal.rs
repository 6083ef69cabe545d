//! A signal as the platform writes it: one JSON object a record. Pure.
//!
//! What is needed to hand a signal on is checked; what is beside that goes to the clients as it came, fields that are unknown
//! here included. Source: the platform's contract, "A signal".

use entitlements::Category;
use protocol::{Document, TooManyFields, check_symbol, parse_rfc3339};
use serde_json::{Map, Value};

/// Longest record that is read, bytes.
pub(crate) const SIGNAL_BYTES_MAX: usize = 256 << 10;

const NS_PER_MS: i64 = 1_000_000;

/// One signal, checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Signal {
    /// A UUID, as a number.
    pub(crate) id: u128,
    pub(crate) signal_type: SignalType,
    /// 0 to 100.
    pub(crate) confidence: f64,
    /// Canonical.
    pub(crate) symbol: String,
    pub(crate) category: Category,
    /// Unix ns.
    pub(crate) generated_at: i64,
    /// Unix ns; `i64::MAX` for never.
    pub(crate) expires_at: i64,
    pub(crate) fields: Map<String, Value>,
}

/// What a signal says to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignalType {
    Buy,
    Sell,
    Hold,
    Exit,
}

impl SignalType {
    fn from_name(name: &str) -> Option<SignalType> {
        Some(match name {
            "buy" => SignalType::Buy,
            "sell" => SignalType::Sell,
            "hold" => SignalType::Hold,
            "exit" => SignalType::Exit,
            _ => return None,
        })
    }
}

/// Why a record is no signal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignalError {
    #[error("{bytes} bytes, and at most {SIGNAL_BYTES_MAX} are read")]
    TooLong { bytes: usize },
    #[error("not a JSON object")]
    NotAnObject,
    #[error("{field} is missing")]
    Missing { field: &'static str },
    #[error("{field} is not {expected}")]
    Wrong { field: &'static str, expected: &'static str },
    #[error(transparent)]
    TooManyFields(#[from] TooManyFields),
}

const SOURCE_TYPES: [&str; 4] = ["ai_model", "analyst", "algorithm", "sentiment"];
const PRICES: [&str; 3] = ["entry_price", "target_price", "stop_loss"];

impl Signal {
    /// Reads a record's value.
    ///
    /// # Errors
    /// [`SignalError`]: the first thing that is wrong.
    pub(crate) fn parse(record: &[u8]) -> Result<Signal, SignalError> {
        if record.len() > SIGNAL_BYTES_MAX {
            return Err(SignalError::TooLong { bytes: record.len() });
        }
        let Ok(Value::Object(mut fields)) = serde_json::from_slice(record) else {
            return Err(SignalError::NotAnObject);
        };
        let id = uuid(text(&fields, "id")?).ok_or(SignalError::Wrong { field: "id", expected: "a UUID" })?;
        let symbol = text(&fields, "symbol")?.trim().to_ascii_uppercase();
        if symbol.contains('@') || check_symbol(&symbol).is_err() {
            return Err(SignalError::Wrong { field: "symbol", expected: "a symbol" });
        }
        let category = Category::from_name(text(&fields, "category")?);
        let expected = "one of equity, forex, crypto, commodity";
        let category = category.ok_or(SignalError::Wrong { field: "category", expected })?;
        let expected = "one of buy, sell, hold, exit";
        let signal_type = SignalType::from_name(text(&fields, "signal_type")?);
        let signal_type = signal_type.ok_or(SignalError::Wrong { field: "signal_type", expected })?;
        if present(&fields, "source_type").is_some() && !SOURCE_TYPES.contains(&text(&fields, "source_type")?) {
            let expected = "one of ai_model, analyst, algorithm, sentiment";
            return Err(SignalError::Wrong { field: "source_type", expected });
        }
        let confidence =
            number(&fields, "confidence_level")?.ok_or(SignalError::Missing { field: "confidence_level" })?;
        if !(0.0..=100.0).contains(&confidence) {
            return Err(SignalError::Wrong { field: "confidence_level", expected: "from 0 to 100" });
        }
        for field in PRICES {
            if number(&fields, field)?.is_some_and(|price| price < 0.0) {
                return Err(SignalError::Wrong { field, expected: "a price" });
            }
        }
        let generated_at = time(&fields, "generated_at")?.ok_or(SignalError::Missing { field: "generated_at" })?;
        let expires_at = time(&fields, "expires_at")?.unwrap_or(i64::MAX);
        // The message says it as `S`.
        fields.remove("symbol");
        Ok(Signal { id, signal_type, confidence, symbol, category, generated_at, expires_at, fields })
    }

    /// As clients get it.
    ///
    /// # Errors
    /// [`SignalError::TooManyFields`].
    pub(crate) fn document(&self) -> Result<Document, SignalError> {
        Ok(Document::new("signal", &self.symbol, &self.fields)?)
    }

    /// As a record for the clients' gateways: what it was, and the market data that it was joined with.
    pub(crate) fn enriched(&self, market_data: Value) -> String {
        let mut fields = self.fields.clone();
        fields.insert("symbol".to_owned(), Value::String(self.symbol.clone()));
        fields.insert("market_data".to_owned(), market_data);
        Value::Object(fields).to_string()
    }

    pub(crate) fn has_expired(&self, now_ns: i64) -> bool {
        self.expires_at <= now_ns
    }
}

fn present<'f>(fields: &'f Map<String, Value>, field: &str) -> Option<&'f Value> {
    fields.get(field).filter(|value| !value.is_null())
}

fn text<'f>(fields: &'f Map<String, Value>, field: &'static str) -> Result<&'f str, SignalError> {
    let value = present(fields, field).ok_or(SignalError::Missing { field })?;
    value.as_str().ok_or(SignalError::Wrong { field, expected: "a text" })
}

/// A number, or a text that is one: decimals come either way.
fn number(fields: &Map<String, Value>, field: &'static str) -> Result<Option<f64>, SignalError> {
    let Some(value) = present(fields, field) else { return Ok(None) };
    let number = match value {
        Value::String(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        value => value.as_f64(),
    };
    number.map(Some).ok_or(SignalError::Wrong { field, expected: "a number" })
}

/// RFC 3339 in UTC, or Unix ms. Unix ns.
fn time(fields: &Map<String, Value>, field: &'static str) -> Result<Option<i64>, SignalError> {
    let Some(value) = present(fields, field) else { return Ok(None) };
    let ns = match value {
        Value::String(text) => parse_rfc3339(text.as_bytes()),
        value => value.as_i64().filter(|ms| *ms >= 0).and_then(|ms| ms.checked_mul(NS_PER_MS)),
    };
    let expected = "a time: RFC 3339 in UTC, or Unix ms";
    ns.map(Some).ok_or(SignalError::Wrong { field, expected })
}

/// Of 8-4-4-4-12 hexadecimal digits.
fn uuid(text: &str) -> Option<u128> {
    if text.len() != 36 {
        return None;
    }
    text.bytes().enumerate().try_fold(0_u128, |id, (at, byte)| match at {
        8 | 13 | 18 | 23 => (byte == b'-').then_some(id),
        _ => Some(id << 4 | u128::from(char::from(byte).to_digit(16)?)),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// One of the given second after 02:03 of a day.
    pub(in crate::signals) fn signal(symbol: &str, signal_type: &str, confidence: f64, second: u32) -> Signal {
        let mut record = record();
        record["symbol"] = json!(symbol);
        record["signal_type"] = json!(signal_type);
        record["confidence_level"] = json!(confidence);
        record["generated_at"] = json!(format!("2026-09-30T02:03:{second:02}Z"));
        Signal::parse(record.to_string().as_bytes()).unwrap()
    }

    fn record() -> Value {
        json!({
            "id": "0b9f1c1e-6f0a-4d5e-9a51-2f4c8f6f0a11", "source_id": "model-7", "source_type": "ai_model",
            "symbol": " btc/usd", "exchange": "COINBASE", "category": "crypto", "signal_type": "buy",
            "entry_price": "83425.9601", "target_price": 85000, "stop_loss": null, "quantity_recommended": 0.5,
            "confidence_level": 82.5, "generated_at": "2026-09-30T02:03:14.331Z", "expires_at": 1_790_733_894_331_i64,
            "analysis_data": {"rsi": 61.75}, "of_tomorrow": [1],
        })
    }

    #[test]
    fn reads_what_the_platform_writes() {
        let signal = Signal::parse(record().to_string().as_bytes()).unwrap();
        assert_eq!((signal.symbol.as_str(), signal.category), ("BTC/USD", Category::Crypto));
        assert_eq!(signal.generated_at, 1_790_733_794_331_000_000);
        assert_eq!(signal.expires_at, 1_790_733_894_331_000_000);
        assert!(signal.has_expired(signal.expires_at) && !signal.has_expired(signal.expires_at - 1));
        assert_eq!(signal.fields["of_tomorrow"], json!([1]));
        assert!(signal.document().is_ok());
        let mut for_good = record();
        for_good.as_object_mut().unwrap().remove("expires_at");
        assert_eq!(Signal::parse(for_good.to_string().as_bytes()).unwrap().expires_at, i64::MAX);
    }

    #[test]
    fn says_what_is_wrong() {
        for (field, value, said) in [
            ("id", json!("17"), "id is not a UUID"),
            ("id", Value::Null, "id is missing"),
            ("symbol", json!("BTC USD"), "symbol is not a symbol"),
            ("symbol", json!("BTC/USD@COINBASE"), "symbol is not a symbol"),
            ("category", json!("bonds"), "category is not one of equity, forex, crypto, commodity"),
            ("signal_type", json!("wait"), "signal_type is not one of buy, sell, hold, exit"),
            ("source_type", json!("rumour"), "source_type is not one of ai_model, analyst, algorithm, sentiment"),
            ("confidence_level", json!(100.5), "confidence_level is not from 0 to 100"),
            ("confidence_level", json!("NaN"), "confidence_level is not a number"),
            ("confidence_level", Value::Null, "confidence_level is missing"),
            ("entry_price", json!(-1), "entry_price is not a price"),
            ("entry_price", json!([1]), "entry_price is not a number"),
            ("generated_at", json!("yesterday"), "generated_at is not a time: RFC 3339 in UTC, or Unix ms"),
            ("generated_at", json!(i64::MAX), "generated_at is not a time: RFC 3339 in UTC, or Unix ms"),
            ("expires_at", json!(true), "expires_at is not a time: RFC 3339 in UTC, or Unix ms"),
        ] {
            let mut record = record();
            record[field] = value;
            let error = Signal::parse(record.to_string().as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), said, "{record}");
        }
        for record in [&b"[]"[..], b"", b"{\"id\":", b"\xff"] {
            assert_eq!(Signal::parse(record), Err(SignalError::NotAnObject));
        }
        let long = vec![b' '; SIGNAL_BYTES_MAX + 1];
        assert_eq!(Signal::parse(&long), Err(SignalError::TooLong { bytes: long.len() }));
    }
}
