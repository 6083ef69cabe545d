//! The codes that client programs act upon: error codes inside messages, and WebSocket close codes.
//!
//! 400 to 411 and 500 are Alpaca's and keep Alpaca's meaning and text, because published client libraries
//! test for them; codes of our own start at 420. PROTOCOL.md lists them all, and a test compares.

/// The `code` of an error message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    InvalidSyntax,
    NotAuthenticated,
    AuthFailed,
    AlreadyAuthenticated,
    AuthTimeout,
    SymbolLimitExceeded,
    ConnectionLimitExceeded,
    SlowClient,
    NotEnabled,
    InsufficientSubscription,
    InvalidSubscribeAction,
    InsufficientScope,
    UnknownSymbol,
    UnknownChannel,
    InvalidSince,
    InvalidMaxRate,
    TooManyItems,
    MessageTooLarge,
    TooManyRequests,
    TokenExpired,
    Internal,
    Unavailable,
}

impl ErrorCode {
    pub const COUNT: usize = 22;
    pub const ALL: [ErrorCode; Self::COUNT] = [
        ErrorCode::InvalidSyntax,
        ErrorCode::NotAuthenticated,
        ErrorCode::AuthFailed,
        ErrorCode::AlreadyAuthenticated,
        ErrorCode::AuthTimeout,
        ErrorCode::SymbolLimitExceeded,
        ErrorCode::ConnectionLimitExceeded,
        ErrorCode::SlowClient,
        ErrorCode::NotEnabled,
        ErrorCode::InsufficientSubscription,
        ErrorCode::InvalidSubscribeAction,
        ErrorCode::InsufficientScope,
        ErrorCode::UnknownSymbol,
        ErrorCode::UnknownChannel,
        ErrorCode::InvalidSince,
        ErrorCode::InvalidMaxRate,
        ErrorCode::TooManyItems,
        ErrorCode::MessageTooLarge,
        ErrorCode::TooManyRequests,
        ErrorCode::TokenExpired,
        ErrorCode::Internal,
        ErrorCode::Unavailable,
    ];

    /// The number on the wire.
    pub const fn code(self) -> u16 {
        match self {
            ErrorCode::InvalidSyntax => 400,
            ErrorCode::NotAuthenticated => 401,
            ErrorCode::AuthFailed => 402,
            ErrorCode::AlreadyAuthenticated => 403,
            ErrorCode::AuthTimeout => 404,
            ErrorCode::SymbolLimitExceeded => 405,
            ErrorCode::ConnectionLimitExceeded => 406,
            ErrorCode::SlowClient => 407,
            ErrorCode::NotEnabled => 408,
            ErrorCode::InsufficientSubscription => 409,
            ErrorCode::InvalidSubscribeAction => 410,
            ErrorCode::InsufficientScope => 411,
            ErrorCode::UnknownSymbol => 420,
            ErrorCode::UnknownChannel => 421,
            ErrorCode::InvalidSince => 422,
            ErrorCode::InvalidMaxRate => 423,
            ErrorCode::TooManyItems => 424,
            ErrorCode::MessageTooLarge => 425,
            ErrorCode::TooManyRequests => 429,
            ErrorCode::TokenExpired => 430,
            ErrorCode::Internal => 500,
            ErrorCode::Unavailable => 503,
        }
    }

    /// The `msg` that goes with it: fixed per code, so that it never carries a secret.
    pub const fn message(self) -> &'static str {
        match self {
            ErrorCode::InvalidSyntax => "invalid syntax",
            ErrorCode::NotAuthenticated => "not authenticated",
            ErrorCode::AuthFailed => "auth failed",
            ErrorCode::AlreadyAuthenticated => "already authenticated",
            ErrorCode::AuthTimeout => "auth timeout",
            ErrorCode::SymbolLimitExceeded => "symbol limit exceeded",
            ErrorCode::ConnectionLimitExceeded => "connection limit exceeded",
            ErrorCode::SlowClient => "slow client",
            ErrorCode::NotEnabled => "v2 not enabled",
            ErrorCode::InsufficientSubscription => "insufficient subscription",
            ErrorCode::InvalidSubscribeAction => "invalid subscribe action for this feed",
            ErrorCode::InsufficientScope => "insufficient scope",
            ErrorCode::UnknownSymbol => "unknown symbol",
            ErrorCode::UnknownChannel => "unknown channel",
            ErrorCode::InvalidSince => "invalid since",
            ErrorCode::InvalidMaxRate => "invalid max_rate",
            ErrorCode::TooManyItems => "too many symbols in one request",
            ErrorCode::MessageTooLarge => "message too large",
            ErrorCode::TooManyRequests => "too many requests",
            ErrorCode::TokenExpired => "token expired",
            ErrorCode::Internal => "internal error",
            ErrorCode::Unavailable => "temporarily unavailable",
        }
    }

    /// The error of that number.
    pub fn from_code(code: u16) -> Option<ErrorCode> {
        Self::ALL.into_iter().find(|error| error.code() == code)
    }
}

/// The WebSocket close codes that the server sends.
///
/// 1001 and 3000..=3499 mean: connect again; 3500..=3999 mean: do not, until something has changed on the
/// client's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// The answer to a client's own close.
    Normal,
    /// The server is draining.
    GoingAway,
    /// The client broke RFC 6455.
    ProtocolError,
    /// A binary frame on a JSON session, or a text frame on a MessagePack session.
    UnsupportedData,
    /// Text that is not UTF-8.
    InvalidPayload,
    /// A message above the size limit.
    TooBig,
    InternalError,
    /// The client did not read for too long, or asked to be cut rather than to miss messages.
    SlowClient,
    /// The client sends requests without reading the answers.
    ControlLaneFull,
    /// No sign-in within the limit.
    AuthTimeout,
    /// What signing in needs is away.
    Unavailable,
    /// The client's address has used up its sign-in attempts.
    TooManyAttempts,
    AuthFailed,
    ConnectionLimit,
    TokenExpired,
    /// The user was blocked or removed, or its token denied, while connected.
    Revoked,
    /// The client's address was blocked while it was connected.
    AddressBlocked,
}

impl CloseCode {
    pub const COUNT: usize = 17;
    pub const ALL: [CloseCode; Self::COUNT] = [
        CloseCode::Normal,
        CloseCode::GoingAway,
        CloseCode::ProtocolError,
        CloseCode::UnsupportedData,
        CloseCode::InvalidPayload,
        CloseCode::TooBig,
        CloseCode::InternalError,
        CloseCode::SlowClient,
        CloseCode::ControlLaneFull,
        CloseCode::AuthTimeout,
        CloseCode::Unavailable,
        CloseCode::TooManyAttempts,
        CloseCode::AuthFailed,
        CloseCode::ConnectionLimit,
        CloseCode::TokenExpired,
        CloseCode::Revoked,
        CloseCode::AddressBlocked,
    ];

    /// The number on the wire.
    pub const fn code(self) -> u16 {
        match self {
            CloseCode::Normal => 1000,
            CloseCode::GoingAway => 1001,
            CloseCode::ProtocolError => 1002,
            CloseCode::UnsupportedData => 1003,
            CloseCode::InvalidPayload => 1007,
            CloseCode::TooBig => 1009,
            CloseCode::InternalError => 1011,
            CloseCode::SlowClient => 3000,
            CloseCode::ControlLaneFull => 3001,
            CloseCode::AuthTimeout => 3002,
            CloseCode::Unavailable => 3003,
            CloseCode::TooManyAttempts => 3004,
            CloseCode::AuthFailed => 3500,
            CloseCode::ConnectionLimit => 3502,
            CloseCode::TokenExpired => 3503,
            CloseCode::Revoked => 3504,
            CloseCode::AddressBlocked => 3505,
        }
    }

    /// The close reason, at most 123 bytes as RFC 6455 allows; also the label of counters by reason.
    pub const fn reason(self) -> &'static str {
        match self {
            CloseCode::Normal => "normal",
            CloseCode::GoingAway => "going away",
            CloseCode::ProtocolError => "protocol error",
            CloseCode::UnsupportedData => "unsupported data",
            CloseCode::InvalidPayload => "invalid payload",
            CloseCode::TooBig => "message too big",
            CloseCode::InternalError => "internal error",
            CloseCode::SlowClient => "slow client",
            CloseCode::ControlLaneFull => "answers not read",
            CloseCode::AuthTimeout => "auth timeout",
            CloseCode::Unavailable => "temporarily unavailable",
            CloseCode::TooManyAttempts => "too many sign-in attempts",
            CloseCode::AuthFailed => "auth failed",
            CloseCode::ConnectionLimit => "connection limit",
            CloseCode::TokenExpired => "token expired",
            CloseCode::Revoked => "revoked",
            CloseCode::AddressBlocked => "address blocked",
        }
    }

    /// Whether a client does well to connect again by itself.
    pub const fn reconnect(self) -> bool {
        matches!(self.code(), 1001 | 1011 | 3000..=3499)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_distinct_and_read_back() {
        for (i, error) in ErrorCode::ALL.into_iter().enumerate() {
            assert_eq!(ErrorCode::from_code(error.code()), Some(error));
            assert_eq!(error as usize, i, "ALL misses a variant before {error:?}");
        }
        assert_eq!(ErrorCode::from_code(412), None);
        let mut codes: Vec<u16> = CloseCode::ALL.into_iter().map(CloseCode::code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), CloseCode::COUNT);
    }

    #[test]
    fn close_codes_say_whether_to_reconnect() {
        for close in CloseCode::ALL {
            let by_range = match close.code() {
                1001 | 3000..=3499 => true,
                3500..=3999 => false,
                // Of the codes that RFC 6455 defines, only the server's own fault is worth another try.
                code => code == 1011,
            };
            assert_eq!(close.reconnect(), by_range, "{close:?}");
            assert!(close.reason().len() <= 123);
        }
    }
}
