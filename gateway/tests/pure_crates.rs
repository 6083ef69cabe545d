//! The crates that promise to be pure have nothing in their manifests that could break the promise, and
//! dependencies between our crates point one way.

use std::path::Path;

/// Those that are there without a feature being asked for.
fn dependencies(krate: &str) -> Vec<String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(krate).join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest).unwrap_or_else(|e| panic!("{}: {e}", manifest.display()));
    let table: toml::Table = text.parse().unwrap();
    let is_optional = |dependency: &toml::Value| dependency.get("optional").is_some_and(|o| o.as_bool() == Some(true));
    let dependencies = table["dependencies"].as_table().unwrap().iter();
    dependencies.filter(|(_, dependency)| !is_optional(dependency)).map(|(name, _)| name.clone()).collect()
}

#[track_caller]
fn check(krate: &str, allowed_of_ours: &[&str]) {
    const OURS: [&str; 5] = ["protocol", "feed-handlers", "entitlements", "fanout", "gateway"];
    const IMPURE: [&str; 9] =
        ["tokio", "mio", "hyper", "axum", "quinn", "rdkafka", "redis", "socket2", "tokio-tungstenite"];
    for dependency in dependencies(krate) {
        assert!(!IMPURE.contains(&dependency.as_str()), "{krate} is pure and must not depend on {dependency}");
        if OURS.contains(&dependency.as_str()) {
            assert!(allowed_of_ours.contains(&dependency.as_str()), "{krate} must not depend on {dependency}");
        }
    }
}

#[test]
fn pure_crates_have_no_sockets_and_dependencies_point_one_way() {
    check("protocol", &[]);
    // But for the store in Redis, which is a feature.
    check("entitlements", &["protocol"]);
    check("fanout", &["protocol", "entitlements"]);
}
