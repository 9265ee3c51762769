//! `dialect` and `allow_sign_bytes` of `[[validator]]`: which bytes are signed that are neither vote nor proposal.

use super::codes;
use super::schema::{Dialect, ProtocolVersion};
use semel_guard::{DOMAIN_MAX, DOMAIN_MIN, Domain};
use semel_ops::config::{Diagnostic, Reader, Spanned};

/// Most entries of `allow_sign_bytes`.
const DOMAINS_MAX: usize = 64;

/// Words of `dialect`.
pub const DIALECTS: [(&str, Dialect); 3] =
    [("auto", Dialect::Auto), ("celestia", Dialect::Celestia), ("v1", Dialect::V1)];

/// What the two keys say.
#[derive(Debug, Default)]
pub(super) struct Bytes {
    pub(super) dialect: Option<Spanned<Dialect>>,
    pub(super) domains: Vec<Domain>,
    /// Where the list stands.
    list: Option<Spanned<()>>,
}

pub(super) fn read(table: &mut Reader<'_>) -> Bytes {
    let dialect = table.choice("dialect", &DIALECTS);
    let list = table.strings("allow_sign_bytes");
    let found = table.found();
    let mut domains = Vec::new();
    for text in list.iter().flat_map(|list| &list.value) {
        match Domain::new(text) {
            Ok(domain) => domains.push(domain),
            Err(error) => {
                let message = format!("`allow_sign_bytes` has a beginning that tells nothing apart: {error}");
                let hint = format!(
                    "{DOMAIN_MIN} to {DOMAIN_MAX} printable ASCII characters, the first a letter or a digit, as the \
                     application writes them"
                );
                found.push(Diagnostic::error(&codes::SIGN_BYTES, &text.place, message).hint(hint));
            }
        }
    }
    if let Some(list) = list.as_ref().filter(|list| list.value.len() > DOMAINS_MAX) {
        let message = format!("`allow_sign_bytes` has {} entries", list.value.len());
        let hint = format!("at most {DOMAINS_MAX} are taken");
        found.push(Diagnostic::error(&codes::SIGN_BYTES, &list.place, message).hint(hint));
    }
    Bytes { dialect, domains, list: list.map(|list| list.map(|_| ())) }
}

impl Bytes {
    /// What cannot work together with the rest of the table.
    pub(super) fn check(&self, table: &Reader<'_>, version: Option<&Spanned<ProtocolVersion>>) {
        let dialect = self.dialect.as_ref();
        if let (Some(list), Some(dialect)) = (&self.list, dialect.filter(|word| word.value == Dialect::Celestia)) {
            let message = "`allow_sign_bytes` is not used with dialect \"celestia\"";
            let found = Diagnostic::warning(&codes::NO_EFFECT, &list.place, message);
            let found = found.related(&dialect.place, "Celestia's requests bring a prefix of their own");
            table.found().push(found.hint("leave one of the two away"));
        }
        let amino = |version: &&Spanned<ProtocolVersion>| {
            matches!(version.value, ProtocolVersion::Legacy | ProtocolVersion::V0_33)
        };
        let place = self.list.as_ref().map(|list| &list.place).or(dialect.map(|dialect| &dialect.place));
        if let (Some(place), Some(version)) = (place, version.filter(amino)) {
            let message = "`dialect` and `allow_sign_bytes` are not used with this protocol_version";
            let found = Diagnostic::warning(&codes::NO_EFFECT, place, message);
            let found = found.related(&version.place, "such nodes never ask for a signature of bytes");
            table.found().push(found.hint("leave them away"));
        }
    }
}
