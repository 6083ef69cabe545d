//! Every counter, gauge and histogram that the gateway's threads count: one table for each kind. What the process as a
//! whole uses is in `process`.

use entitlements::Refusal;

/// Makes an enum of the metrics with their names, help texts and labels. Rows of one name must have the same
/// help and stand together.
macro_rules! metrics {
    ($(#[$doc:meta])* $enum:ident: $($variant:ident = $name:literal $({ $label:ident = $value:literal })?, $help:literal;)+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum $enum {
            $(#[doc = $help] $variant,)+
        }

        impl $enum {
            pub const ALL: [$enum; [$($enum::$variant),+].len()] = [$($enum::$variant),+];
            pub const COUNT: usize = Self::ALL.len();

            /// The metric's name, with its unit.
            pub const fn name(self) -> &'static str {
                match self {
                    $($enum::$variant => $name,)+
                }
            }

            /// What it tells, for the HELP line.
            pub const fn help(self) -> &'static str {
                match self {
                    $($enum::$variant => $help,)+
                }
            }

            /// The labels, from a closed set; empty where the name says all.
            pub const fn labels(self) -> &'static [(&'static str, &'static str)] {
                match self {
                    $($enum::$variant => &[$((stringify!($label), $value))?],)+
                }
            }
        }
    };
}

metrics! {
    /// What only ever grows.
    Counter:
    ConnectionsOpened = "gateway_connections_opened_total", "Client connections accepted.";
    ClosedByClient = "gateway_connections_closed_total" { reason = "client" }, "Client connections ended, by reason.";
    ClosedLost = "gateway_connections_closed_total" { reason = "lost" }, "Client connections ended, by reason.";
    ClosedProtocol = "gateway_connections_closed_total" { reason = "protocol" }, "Client connections ended, by reason.";
    ClosedTooBig = "gateway_connections_closed_total" { reason = "too_big" }, "Client connections ended, by reason.";
    ClosedAuth = "gateway_connections_closed_total" { reason = "auth" }, "Client connections ended, by reason.";
    ClosedAuthTimeout = "gateway_connections_closed_total" { reason = "auth_timeout" }, "Client connections ended, by reason.";
    ClosedTokenExpired = "gateway_connections_closed_total" { reason = "token_expired" }, "Client connections ended, by reason.";
    ClosedRevoked = "gateway_connections_closed_total" { reason = "revoked" }, "Client connections ended, by reason.";
    ClosedSlowConsumer = "gateway_connections_closed_total" { reason = "slow_consumer" }, "Client connections ended, by reason.";
    ClosedStalled = "gateway_connections_closed_total" { reason = "stalled" }, "Client connections ended, by reason.";
    ClosedControlFull = "gateway_connections_closed_total" { reason = "control_full" }, "Client connections ended, by reason.";
    ClosedDrain = "gateway_connections_closed_total" { reason = "drain" }, "Client connections ended, by reason.";
    ClosedInternal = "gateway_connections_closed_total" { reason = "internal" }, "Client connections ended, by reason.";

    HandshakeTimeout = "gateway_handshakes_refused_total" { reason = "timeout" }, "Handshakes refused, by reason.";
    HandshakeTooMany = "gateway_handshakes_refused_total" { reason = "too_many" }, "Handshakes refused, by reason.";
    HandshakeAddressLimit = "gateway_handshakes_refused_total" { reason = "address_limit" }, "Handshakes refused, by reason.";
    HandshakeNotUpgrade = "gateway_handshakes_refused_total" { reason = "not_upgrade" }, "Handshakes refused, by reason.";
    HandshakeUnknownPath = "gateway_handshakes_refused_total" { reason = "unknown_path" }, "Handshakes refused, by reason.";
    HandshakeMalformed = "gateway_handshakes_refused_total" { reason = "malformed" }, "Handshakes refused, by reason.";
    HandshakeUnauthorized = "gateway_handshakes_refused_total" { reason = "unauthorized" }, "Handshakes refused, by reason.";
    HandshakeDraining = "gateway_handshakes_refused_total" { reason = "draining" }, "Handshakes refused, by reason.";
    HandshakeBlocked = "gateway_handshakes_refused_total" { reason = "blocked" }, "Handshakes refused, by reason.";
    HandshakeSuspicious = "gateway_handshakes_refused_total" { reason = "suspicious" }, "Handshakes refused, by reason.";
    HandshakeOrigin = "gateway_handshakes_refused_total" { reason = "origin" }, "Handshakes refused, by reason.";
    HandshakeTooManyAttempts = "gateway_handshakes_refused_total" { reason = "too_many_attempts" }, "Handshakes refused, by reason.";
    HandshakeUnavailable = "gateway_handshakes_refused_total" { reason = "unavailable" }, "Handshakes refused, by reason.";
    HandshakeRateLimit = "gateway_handshakes_refused_total" { reason = "rate_limit" }, "Handshakes refused, by reason.";
    HandshakeTooLarge = "gateway_handshakes_refused_total" { reason = "too_large" }, "Handshakes refused, by reason.";
    HandshakeProxyHeader = "gateway_handshakes_refused_total" { reason = "proxy_header" }, "Handshakes refused, by reason.";
    HandshakeNoProxy = "gateway_handshakes_refused_total" { reason = "no_proxy" }, "Handshakes refused, by reason.";
    HandshakeTlsPlainHttp = "gateway_handshakes_refused_total" { reason = "tls_plain_http" }, "Handshakes refused, by reason.";
    HandshakeTlsVersion = "gateway_handshakes_refused_total" { reason = "tls_version" }, "Handshakes refused, by reason.";
    HandshakeTlsIncompatible = "gateway_handshakes_refused_total" { reason = "tls_incompatible" }, "Handshakes refused, by reason.";
    HandshakeTlsAlert = "gateway_handshakes_refused_total" { reason = "tls_alert" }, "Handshakes refused, by reason.";
    HandshakeTlsMalformed = "gateway_handshakes_refused_total" { reason = "tls_malformed" }, "Handshakes refused, by reason.";
    HandshakesTlsFull = "gateway_tls_handshakes_total" { kind = "full" }, "TLS handshakes done, by kind.";
    HandshakesTlsResumed = "gateway_tls_handshakes_total" { kind = "resumed" }, "TLS handshakes done, by kind.";
    CertificatesReloaded = "gateway_certificate_reloads_total" { result = "ok" }, "Readings of the TLS certificate while running, by result.";
    CertificatesNotReloaded = "gateway_certificate_reloads_total" { result = "failed" }, "Readings of the TLS certificate while running, by result.";
    AcceptErrors = "gateway_accept_errors_total", "Connections that the system could not hand over.";

    SignIns = "gateway_sign_ins_total", "Clients signed in.";
    SignInUnknownKey = "gateway_sign_ins_refused_total" { reason = "unknown_key" }, "Sign-ins refused, by reason.";
    SignInWrongSecret = "gateway_sign_ins_refused_total" { reason = "wrong_secret" }, "Sign-ins refused, by reason.";
    SignInTokenMalformed = "gateway_sign_ins_refused_total" { reason = "token_malformed" }, "Sign-ins refused, by reason.";
    SignInTokenAlgorithm = "gateway_sign_ins_refused_total" { reason = "token_algorithm" }, "Sign-ins refused, by reason.";
    SignInTokenUnknownKey = "gateway_sign_ins_refused_total" { reason = "token_unknown_key" }, "Sign-ins refused, by reason.";
    SignInTokenSignature = "gateway_sign_ins_refused_total" { reason = "token_signature" }, "Sign-ins refused, by reason.";
    SignInTokenClaims = "gateway_sign_ins_refused_total" { reason = "token_claims" }, "Sign-ins refused, by reason.";
    SignInTokenExpired = "gateway_sign_ins_refused_total" { reason = "token_expired" }, "Sign-ins refused, by reason.";
    SignInTokenNotYetValid = "gateway_sign_ins_refused_total" { reason = "token_not_yet_valid" }, "Sign-ins refused, by reason.";
    SignInTokenIssuer = "gateway_sign_ins_refused_total" { reason = "token_issuer" }, "Sign-ins refused, by reason.";
    SignInTokenAudience = "gateway_sign_ins_refused_total" { reason = "token_audience" }, "Sign-ins refused, by reason.";
    SignInUnknownUser = "gateway_sign_ins_refused_total" { reason = "unknown_user" }, "Sign-ins refused, by reason.";
    SignInBlocked = "gateway_sign_ins_refused_total" { reason = "blocked" }, "Sign-ins refused, by reason.";
    SignInKeyExpired = "gateway_sign_ins_refused_total" { reason = "key_expired" }, "Sign-ins refused, by reason.";
    SignInTokenDenied = "gateway_sign_ins_refused_total" { reason = "token_denied" }, "Sign-ins refused, by reason.";
    SignInUnknownCertificate = "gateway_sign_ins_refused_total" { reason = "unknown_certificate" }, "Sign-ins refused, by reason.";
    SignInTooManyAttempts = "gateway_sign_ins_refused_total" { reason = "too_many_attempts" }, "Sign-ins refused, by reason.";
    SignInStoreAway = "gateway_sign_ins_refused_total" { reason = "store_away" }, "Sign-ins refused, by reason.";
    SignInRecord = "gateway_sign_ins_refused_total" { reason = "record" }, "Sign-ins refused, by reason.";
    SignInMalformed = "gateway_sign_ins_refused_total" { reason = "malformed" }, "Sign-ins refused, by reason.";
    SignInRateLimit = "gateway_sign_ins_refused_total" { reason = "rate_limit" }, "Sign-ins refused, by reason.";
    SignInConnectionLimit = "gateway_sign_ins_refused_total" { reason = "connection_limit" }, "Sign-ins refused, by reason.";

    AuditWritten = "gateway_audit_events_total" { result = "written" }, "Audit events, by what became of them.";
    AuditLost = "gateway_audit_events_total" { result = "lost" }, "Audit events, by what became of them.";
    AuditWaits = "gateway_audit_waits_total", "Times that an audit event had to wait for room.";
    KafkaDelivered = "gateway_kafka_records_total" { result = "delivered" }, "Records for Kafka, by what became of them.";
    KafkaRepeated = "gateway_kafka_records_total" { result = "repeated" }, "Records for Kafka, by what became of them.";
    KafkaLost = "gateway_kafka_records_total" { result = "lost" }, "Records for Kafka, by what became of them.";
    SignalsRead = "gateway_signals_total" { result = "read" }, "Signals out of Kafka, by what became of them.";
    SignalsExpired = "gateway_signals_total" { result = "expired" }, "Signals out of Kafka, by what became of them.";
    SignalsMalformed = "gateway_signals_total" { result = "malformed" }, "Signals out of Kafka, by what became of them.";
    SignalsWithoutRoom = "gateway_signals_total" { result = "instruments_full" }, "Signals out of Kafka, by what became of them.";
    RawSignalsPublished = "gateway_raw_signals_total" { result = "published" }, "Raw signals processed, by what became of them.";
    RawSignalsUnsure = "gateway_raw_signals_total" { result = "low_confidence" }, "Raw signals processed, by what became of them.";
    RawSignalsRepeated = "gateway_raw_signals_total" { result = "repeated" }, "Raw signals processed, by what became of them.";
    RawSignalsExpired = "gateway_raw_signals_total" { result = "expired" }, "Raw signals processed, by what became of them.";
    RawSignalsDeadLetter = "gateway_raw_signals_total" { result = "dead_letter" }, "Raw signals processed, by what became of them.";
    RawSignalsLost = "gateway_raw_signals_total" { result = "lost" }, "Raw signals processed, by what became of them.";
    RightsApplied = "gateway_rights_records_total" { result = "applied" }, "Changes of users' rights that came from Kafka, by what became of them.";
    RightsOld = "gateway_rights_records_total" { result = "old" }, "Changes of users' rights that came from Kafka, by what became of them.";
    RightsEmpty = "gateway_rights_records_total" { result = "empty" }, "Changes of users' rights that came from Kafka, by what became of them.";
    RightsDeadLetter = "gateway_rights_records_total" { result = "dead_letter" }, "Changes of users' rights that came from Kafka, by what became of them.";
    RightsLost = "gateway_rights_records_total" { result = "lost" }, "Changes of users' rights that came from Kafka, by what became of them.";
    MarketDataDelivered = "gateway_market_data_records_total" { result = "delivered" }, "Records of market data for Kafka, by what became of them.";
    MarketDataDropped = "gateway_market_data_records_total" { result = "dropped" }, "Records of market data for Kafka, by what became of them.";
    MarketDataFailed = "gateway_market_data_records_total" { result = "failed" }, "Records of market data for Kafka, by what became of them.";
    JwksFetched = "gateway_jwks_fetches_total" { result = "ok" }, "Fetches of the keys that the issuer of tokens publishes, by result.";
    JwksNotFetched = "gateway_jwks_fetches_total" { result = "failed" }, "Fetches of the keys that the issuer of tokens publishes, by result.";

    CommandsAuth = "gateway_commands_total" { action = "auth" }, "Client messages understood, by action.";
    CommandsSubscribe = "gateway_commands_total" { action = "subscribe" }, "Client messages understood, by action.";
    CommandsUnsubscribe = "gateway_commands_total" { action = "unsubscribe" }, "Client messages understood, by action.";
    CommandErrorSyntax = "gateway_command_errors_total" { reason = "syntax" }, "Errors sent to clients, by reason.";
    CommandErrorState = "gateway_command_errors_total" { reason = "state" }, "Errors sent to clients, by reason.";
    CommandErrorUnknown = "gateway_command_errors_total" { reason = "unknown" }, "Errors sent to clients, by reason.";
    CommandErrorDenied = "gateway_command_errors_total" { reason = "denied" }, "Errors sent to clients, by reason.";
    CommandErrorLimit = "gateway_command_errors_total" { reason = "limit" }, "Errors sent to clients, by reason.";
    CommandErrorRate = "gateway_command_errors_total" { reason = "rate" }, "Errors sent to clients, by reason.";
    CommandErrorQuota = "gateway_command_errors_total" { reason = "quota" }, "Errors sent to clients, by reason.";
    EntitlementsChanged = "gateway_entitlement_changes_total", "Live sessions whose rights became others.";
    TokensRefreshed = "gateway_token_refreshes_total", "Live sessions that went over to another token.";
    ClientPings = "gateway_client_pings_total", "Pings received from clients.";

    MessagesDelivered = "gateway_messages_delivered_total", "Data messages handed to client sockets.";
    BytesWritten = "gateway_written_bytes_total", "Bytes that client sockets took.";
    BytesRead = "gateway_read_bytes_total", "Bytes received from client sockets.";
    Writes = "gateway_writes_total", "Write calls to client sockets.";
    WritesBlocked = "gateway_writes_blocked_total", "Write calls that a client socket did not take whole.";
    ConflatedUpdates = "gateway_conflated_updates_total", "Updates replaced by a newer value before their client took them.";
    GapsAnnounced = "gateway_gaps_announced_total", "Gaps that clients were told.";
    HeartbeatsSent = "gateway_heartbeats_sent_total", "Heartbeats sent to quiet clients.";
    SlowConsumerDisconnects = "gateway_slow_consumer_disconnects_total", "Clients disconnected because they fell behind.";

    SourceSwitches = "gateway_source_switches_total", "Instruments whose plain stream another source took over.";
    TicksStandby = "gateway_ticks_left_out_total" { reason = "standby" }, "Ticks that are in no plain stream, by reason.";
    TicksBehind = "gateway_ticks_left_out_total" { reason = "behind" }, "Ticks that are in no plain stream, by reason.";
    DeadLettersWritten = "gateway_dead_letters_total" { result = "written" }, "Frames that feeds refused, by what became of them.";
    DeadLettersLost = "gateway_dead_letters_total" { result = "lost" }, "Frames that feeds refused, by what became of them.";
    RingRecords = "gateway_ring_records_total", "Ticks that the sequencer read.";
    RingLapped = "gateway_ring_lapped_total", "Ticks overwritten before the sequencer read them.";
    SequencedMessages = "gateway_sequencer_messages_total" { class = "sequenced" }, "Messages numbered, by delivery class.";
    ConflatedMessages = "gateway_sequencer_messages_total" { class = "conflated" }, "Messages numbered, by delivery class.";
    SegmentsPublished = "gateway_segments_published_total", "Batches of encoded frames made.";
    SegmentBytes = "gateway_segment_bytes_total", "Bytes of encoded frames made.";
    SegmentsQueued = "gateway_shard_queue_in_total", "Segments put into the shards' queues.";
    SegmentsTaken = "gateway_shard_queue_out_total", "Segments taken out of the shards' queues.";
    ShardQueueFull = "gateway_shard_queue_full_total", "Times the sequencer waited for a full shard queue.";
    DelayLineDropped = "gateway_delay_line_dropped_total", "Held-back messages dropped because the delay line was full.";
    BarsClosed = "gateway_bars_closed_total", "Bars finished, of all intervals.";
    OwnBarsSuperseded = "gateway_bars_superseded_total" { maker = "gateway" }, "Finished bars left out because another one stands in their place, by who made what was left out.";
    VenueBarsSuperseded = "gateway_bars_superseded_total" { maker = "venue" }, "Finished bars left out because another one stands in their place, by who made what was left out.";
    BarsLateTrades = "gateway_bars_late_trades_total", "Trades that came after their bar of 5 s was finished; they may be in longer ones.";
}

metrics! {
    /// What rises and falls; each thread sets its own part.
    Gauge:
    Connections = "gateway_connections", "Clients signed in now.";
    TlsConnections = "gateway_tls_connections", "Clients signed in now over TLS.";
    Handshakes = "gateway_handshakes", "Connections that have not signed in yet.";
    Subscriptions = "gateway_subscriptions", "Channels subscribed to, all clients together.";
    ClientsBehind = "gateway_outbox_behind", "Clients for which data waits.";
    RetainedBytes = "gateway_retained_bytes", "Memory of the retained log.";
    DelayLineBytes = "gateway_delay_line_bytes", "Memory of held-back messages.";
    Instruments = "gateway_instruments", "Instruments known.";
    SignalsUncommitted = "gateway_signals_uncommitted", "Signals out of Kafka whose place there is not committed yet.";
}

metrics! {
    /// Spans of time that each shard has for itself: shown by shard, since their sum would say nothing.
    ShardGauge:
    Round = "gateway_shard_round_seconds", "How far apart a shard's rounds of writes begin; 0 while it has time to spare.";
}

metrics! {
    /// How long a stage takes.
    Histogram:
    TickToSegment = "gateway_tick_to_segment_seconds", "From the venue socket's read to the encoded frame.";
    TickToWrite = "gateway_tick_to_write_seconds", "From the venue socket's read to the end of the turn that wrote to the clients.";
}

impl From<Refusal> for Counter {
    fn from(reason: Refusal) -> Counter {
        match reason {
            Refusal::UnknownKey => Counter::SignInUnknownKey,
            Refusal::WrongSecret => Counter::SignInWrongSecret,
            Refusal::TokenMalformed => Counter::SignInTokenMalformed,
            Refusal::TokenAlgorithm => Counter::SignInTokenAlgorithm,
            Refusal::TokenUnknownKey => Counter::SignInTokenUnknownKey,
            Refusal::TokenSignature => Counter::SignInTokenSignature,
            Refusal::TokenClaims => Counter::SignInTokenClaims,
            Refusal::TokenExpired => Counter::SignInTokenExpired,
            Refusal::TokenNotYetValid => Counter::SignInTokenNotYetValid,
            Refusal::TokenIssuer => Counter::SignInTokenIssuer,
            Refusal::TokenAudience => Counter::SignInTokenAudience,
            Refusal::UnknownUser => Counter::SignInUnknownUser,
            Refusal::Blocked => Counter::SignInBlocked,
            Refusal::KeyExpired => Counter::SignInKeyExpired,
            Refusal::TokenDenied => Counter::SignInTokenDenied,
            Refusal::UnknownCertificate => Counter::SignInUnknownCertificate,
            Refusal::TooManyAttempts => Counter::SignInTooManyAttempts,
            Refusal::StoreAway => Counter::SignInStoreAway,
            Refusal::Record => Counter::SignInRecord,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_keep_their_names() {
        for reason in Refusal::ALL {
            assert_eq!(Counter::from(reason).labels(), [("reason", reason.name())]);
        }
    }
}
