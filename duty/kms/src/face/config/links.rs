//! References inside one file: validators and keys name chains.
//!
//! A chain is found by its id, or by its name. Findings here say what is missing or ambiguous, with both places. What could not
//! be read at all has been reported already and is not reported again as missing: the one name that most likely means a chain
//! with a bad id, and as many chains without a key as there are keys whose chains could not be read. Nothing else is held back.

use super::codes;
use super::files::Loose;
use super::providers::{RawKey, RawProviders};
use super::schema::{Config, KeyType, Pkcs11, Pkcs11Key};
use super::validator::RawValidator;
use semel_ops::config::{Diagnostic, Diagnostics, Place, Spanned};

/// How a chain is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// `chain_id`, `chain_ids`
    Id,
    /// `chain`, `chains`
    Name,
}

/// One mention of a chain.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    pub(super) by: By,
    pub(super) text: Spanned<String>,
    /// The id that stands beside a name; it must be that of the chain.
    pub(super) id: Option<Spanned<String>>,
}

struct Registered {
    id: Option<Spanned<String>>,
    name: Option<Spanned<String>>,
    place: Place,
    /// Its id and its name are valid.
    good: bool,
}

impl Registered {
    fn called(&self) -> Option<&str> {
        self.name.as_ref().or(self.id.as_ref()).map(|text| text.value.as_str())
    }

    fn has_id(&self, id: &str) -> bool {
        self.id.as_ref().is_some_and(|own| own.value == id)
    }

    /// Whether a reference calls it what it calls itself.
    fn is_meant(&self, reference: &Reference) -> bool {
        match reference.by {
            By::Id => self.has_id(&reference.text),
            By::Name => self.called() == Some(reference.text.as_str()),
        }
    }

    fn best_place(&self) -> &Place {
        self.name.as_ref().or(self.id.as_ref()).map_or(&self.place, |text| &text.place)
    }
}

/// The chains of one file.
pub(super) struct Links<'a> {
    found: &'a Diagnostics,
    chains: Vec<Registered>,
}

/// What the references of one kind came to.
#[derive(Default)]
struct Asked {
    /// Names of chains that are meant, also in references that are wrong in another way.
    names: Vec<String>,
    /// References to chains that are not there, and how many tables name none that can be read.
    strange: Vec<Spanned<String>>,
    unreadable: usize,
}

impl Asked {
    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|other| other == name) || self.strange.iter().any(|text| alike(text, name))
    }
}

impl<'a> Links<'a> {
    pub(super) fn new(found: &'a Diagnostics) -> Links<'a> {
        Links { found, chains: Vec::new() }
    }

    /// Registers a chain; false when it was there already.
    pub(super) fn register(
        &mut self,
        id: Option<&Spanned<String>>,
        name: Option<&Spanned<String>>,
        good: bool,
        place: &Place,
    ) -> bool {
        let new = Registered { id: id.cloned(), name: name.cloned(), place: place.clone(), good };
        let other = self.chains.iter().find(|old| old.called().is_some() && old.called() == new.called());
        if let Some(old) = other {
            let text = new.called().unwrap_or_default();
            let both_by_id = old.name.is_none() && new.name.is_none();
            let message = match both_by_id {
                true => format!("the chain `{text}` is registered twice"),
                false => format!("two chains are called `{text}`"),
            };
            let hint = match both_by_id {
                true => "for several validators of one chain use a file each, or give each [[chain]] a `name`",
                false => "give each [[chain]] a different `name`",
            };
            self.found.push(
                Diagnostic::error(&codes::CHAIN_TWICE, new.best_place(), message)
                    .related(old.best_place(), "it is registered here first")
                    .hint(hint),
            );
            return false;
        }
        self.chains.push(new);
        true
    }

    /// Turns what validators and keys say into names of chains, and checks that every chain has its key.
    pub(super) fn resolve(
        self,
        config: &mut Config,
        validators: Vec<RawValidator>,
        providers: RawProviders,
        loose: &mut Loose,
    ) {
        let by_validators: Vec<&Reference> = validators.iter().filter_map(|raw| raw.reference.as_ref()).collect();
        let held_back = self.held_back(&by_validators, &providers.references());
        let mut asked = Asked::default();
        for raw in validators {
            let name = match &raw.reference {
                Some(reference) => self.name(reference, "[[validator]]", &held_back, &mut asked),
                None => {
                    asked.unreadable = asked.unreadable.saturating_add(1);
                    None
                }
            };
            match (raw.value, name) {
                (Some(mut validator), Some(name)) => {
                    validator.chain = name;
                    config.validators.push(validator);
                }
                _ => loose.identities.extend(raw.secret_key),
            }
        }
        let mut of_keys = Asked { unreadable: providers.unreadable, ..Asked::default() };
        let mut keys: Vec<(String, KeyType, Place)> = Vec::new();
        let mut chains_of = |raw: &RawKey, table: &str| {
            let mut names: Vec<String> = Vec::new();
            for reference in &raw.references {
                let name = self.name(reference, table, &held_back, &mut of_keys);
                names.extend(name.filter(|name| !names.contains(name)));
            }
            keys.extend(names.iter().map(|name| (name.clone(), raw.key_type, raw.place.clone())));
            names
        };
        for (raw, value) in providers.softsign {
            let chains = chains_of(&raw, "[[providers.softsign]]");
            if let Some(mut softsign) = value {
                softsign.chains = chains;
                config.softsign.push(softsign);
            }
        }
        for (raw_keys, value) in providers.yubihsm {
            let resolved: Vec<_> =
                raw_keys.into_iter().map(|(raw, key)| (chains_of(&raw, "[[providers.yubihsm]]"), key)).collect();
            if let Some(mut yubihsm) = value {
                yubihsm.keys = resolved
                    .into_iter()
                    .filter_map(|(chains, key)| {
                        key.map(|mut key| {
                            key.chains = chains;
                            key
                        })
                    })
                    .collect();
                config.yubihsm.push(yubihsm);
            }
        }
        for (raw_keys, value) in providers.pkcs11 {
            let resolved = raw_keys.into_iter().map(|(raw, key)| (chains_of(&raw, "[[providers.pkcs11]]"), key));
            let keys = resolved.filter_map(|(chains, key)| Some(Pkcs11Key { chains, ..key? })).collect();
            config.pkcs11.extend(value.map(|token| Pkcs11 { keys, ..token }));
        }
        self.check_keys(&keys, &of_keys);
        self.check_validators(&asked);
    }

    fn matches(&self, reference: &Reference) -> Vec<&Registered> {
        self.chains.iter().filter(|chain| chain.is_meant(reference)).collect()
    }

    /// Names that most likely mean a chain whose own id or name is not valid, at most one for each: the nearest, else one that a
    /// validator and a key share.
    fn held_back(&self, by_validators: &[&Reference], by_keys: &[&Reference]) -> Vec<String> {
        let unknown = |references: &[&Reference]| -> Vec<String> {
            let all = references.iter().filter(|reference| self.matches(reference).is_empty());
            all.map(|reference| reference.text.value.clone()).collect()
        };
        let (validators, keys) = (unknown(by_validators), unknown(by_keys));
        let mut names: Vec<String> = Vec::new();
        let all = || by_validators.iter().chain(by_keys);
        for bad in self.chains.iter().filter(|chain| !chain.good && !all().any(|reference| chain.is_meant(reference))) {
            let free = || validators.iter().chain(&keys).filter(|name| !names.contains(name));
            let near = free().find(|name| bad.called().is_some_and(|called| alike(called, name)));
            let shared = || free().find(|name| validators.contains(name) && keys.contains(name));
            if let Some(name) = near.or_else(shared).cloned() {
                names.push(name);
            }
        }
        names
    }

    /// The name of the chain that is meant.
    fn name(&self, reference: &Reference, table: &str, held_back: &[String], asked: &mut Asked) -> Option<String> {
        let text = &reference.text;
        let matches = self.matches(reference);
        asked.names.extend(matches.iter().filter_map(|chain| chain.called()).map(str::to_owned));
        match matches.as_slice() {
            [chain] => {
                if let Some(id) = reference.id.as_ref().filter(|id| !chain.has_id(id)) {
                    let message =
                        format!("`chain_id` is `{}`, but the chain called `{}` has another id", id.value, text.value);
                    let error = Diagnostic::error(&codes::CONTRADICTION, &id.place, message);
                    let error = error.related(chain.id.as_ref().map_or(&chain.place, |id| &id.place), "its id is this");
                    self.found.push(error.hint("leave one of `chain` and `chain_id` away"));
                    return None;
                }
                chain.called().map(str::to_owned)
            }
            [] => {
                asked.strange.push(text.clone());
                if !held_back.contains(&text.value) {
                    self.unregistered(reference, table);
                }
                None
            }
            [first, ..] => {
                let names: Vec<_> = matches.iter().filter_map(|chain| chain.called()).collect();
                let hint = match table {
                    "[[validator]]" => format!("say which: chain = \"{}\"", names.join("\" or chain = \"")),
                    _ => format!("say which: chains = [\"{}\"]", names.join("\"] or chains = [\"")),
                };
                let message = format!("`{}` is the id of {} chains", text.value, matches.len());
                let error = Diagnostic::error(&codes::AMBIGUOUS, &text.place, message);
                self.found.push(error.related(first.best_place(), "this is one of them").hint(hint));
                None
            }
        }
    }

    fn unregistered(&self, reference: &Reference, table: &str) {
        let text = &reference.text;
        let what = if reference.by == By::Id { "id" } else { "name" };
        let message = format!("{table} names the chain `{}`, but no [[chain]] has this {what}", text.value);
        let error = Diagnostic::error(&codes::CHAIN_UNKNOWN, &text.place, message);
        let all: Vec<&str> = self.chains.iter().filter(|chain| chain.good).filter_map(Registered::called).collect();
        let mut good = self.chains.iter().filter(|chain| chain.good);
        let near = good.clone().find(|chain| chain.called().is_some_and(|name| alike(name, text)));
        let mut add = format!("add a [[chain]] with {what} = \"{}\"", text.value);
        if let Some(bad) = self.chains.iter().find(|chain| !chain.good) {
            add.push_str(&format!(", or correct the bad one in line {}, if that is meant", bad.best_place().line()));
        }
        let error = match (near, good.next()) {
            (Some(chain), _) => {
                let name = chain.called().unwrap_or_default();
                error
                    .related(chain.best_place(), "the nearest registered one is this")
                    .hint(format!("did you mean \"{name}\"? Else {add}"))
            }
            (None, Some(chain)) => error
                .related(chain.best_place(), format!("registered: {}", all.join(", ")))
                .hint(format!("{add}, or name a registered one")),
            (None, None) => error.hint(add),
        };
        self.found.push(error);
    }

    fn check_keys(&self, keys: &[(String, KeyType, Place)], asked: &Asked) {
        let mut without: Vec<(&Registered, &str)> = Vec::new();
        for chain in &self.chains {
            let Some(name) = chain.called() else { continue };
            let of = |wanted: KeyType| -> Vec<&Place> {
                keys.iter().filter(|(n, t, _)| n == name && *t == wanted).map(|(_, _, place)| place).collect()
            };
            let (consensus, account) = (of(KeyType::Consensus), of(KeyType::Account));
            // With a consensus key, account keys only stand beside it; without one, the account key signs.
            let signing = if consensus.is_empty() { account } else { consensus };
            match signing.as_slice() {
                [_] => {}
                [] if !chain.good || asked.has(name) => {}
                [] => without.push((chain, name)),
                [first, more @ ..] => {
                    for place in more {
                        let message = format!("the chain `{name}` has more than one key");
                        let error =
                            Diagnostic::error(&codes::KEYS, place, message).related(first, "its first key is this");
                        let hint = "keep one; for several validators give each its own [[chain]] with a `name`";
                        self.found.push(error.hint(hint));
                    }
                }
            }
        }
        // A key whose chains could not be read may be the one.
        if without.len() <= asked.unreadable {
            return;
        }
        for (chain, name) in without {
            let message = format!("the chain `{name}` has no key");
            let word = if chain.name.is_some() { "chains" } else { "chain_ids" };
            let mut hint = format!("add [[providers.softsign]] with {word} = [\"{name}\"] and path = \"PATH\"");
            if let Some(strange) = asked.strange.first() {
                let line = strange.place.line();
                hint.push_str(&format!(", or correct \"{}\" in line {line}, if that is its key", strange.value));
            }
            self.found.push(Diagnostic::error(&codes::NO_KEY, chain.best_place(), message).hint(hint));
        }
    }

    fn check_validators(&self, asked: &Asked) {
        let good = self.chains.iter().filter(|chain| chain.good);
        let without: Vec<_> =
            good.filter_map(|chain| Some((chain, chain.called()?))).filter(|(_, name)| !asked.has(name)).collect();
        // Each that could not be read, or names what is not there, may be meant for one of them.
        if without.len() <= asked.unreadable.saturating_add(asked.strange.len()) {
            return;
        }
        for (chain, name) in without {
            let message = format!("the chain `{name}` has no validator");
            let hint = format!("add [[validator]] with chain_id = \"{name}\" and the address of its node");
            self.found.push(Diagnostic::warning(&codes::NO_VALIDATOR, chain.best_place(), message).hint(hint));
        }
    }
}

/// Ids of one chain before and after an upgrade, or with a slip: the same letters and digits, or the same up to the revision.
fn alike(one: &str, other: &str) -> bool {
    let plain = |text: &str| -> String {
        text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
    };
    let stem = |text: &str| plain(text).trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
    let is_same = |part: &dyn Fn(&str) -> String| !part(one).is_empty() && part(one) == part(other);
    is_same(&plain) || is_same(&stem)
}
