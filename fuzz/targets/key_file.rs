//! Key files of any form: what is read reads the same again, also as what an import makes of it; and no error shows what could
//! be a secret.
#![no_main]

use libfuzzer_sys::fuzz_target;
use semel_keys::KeyError;
use semel_keys::identity::Identity;
use semel_keys::softsign::{self, Form, KeyType};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Shortest base64 of 32 bytes.
const SECRET_LEN: usize = 43;

fn path(name: &str) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    directory.join(format!("semel-fuzz-{}-{name}", std::process::id()))
}

/// A file that is gone when this is.
struct Gone(PathBuf);

impl Drop for Gone {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

/// Whether a byte may stand in base64.
fn is_base64(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

/// No error shows what could be a secret: so many signs of base64 in a row are in none, but in the name of a type.
fn tells_nothing(error: &KeyError) {
    let said = format!("{error} {error:?}");
    let is_type = |run: &[u8]| run.starts_with(b"tendermint/") || run.starts_with(b"cometbft/");
    let mut runs = said.as_bytes().split(|byte| !is_base64(byte));
    assert!(runs.all(|run| run.len() < SECRET_LEN || is_type(run)), "{said}");
    assert!(!error.code().is_empty() && !error.hint().is_empty());
}

fuzz_target!(|data: &[u8]| {
    let (file, imported) = (Gone(path("key")), Gone(path("imported")));
    let mut options = OpenOptions::new();
    let mut open = options.write(true).create(true).truncate(true).mode(0o600).open(&file.0).expect("a file in memory");
    open.write_all(data).expect("it has room");
    drop(open);
    for (form, kind) in
        [(Form::Base64, KeyType::Consensus), (Form::Base64, KeyType::Account), (Form::Json, KeyType::Consensus)]
    {
        let key = match softsign::load(&file.0, form, kind) {
            Ok((key, _)) => key,
            Err(error) => {
                tells_nothing(&error);
                continue;
            }
        };
        let again = softsign::load(&file.0, form, kind).expect("it was read before").0;
        assert_eq!(again.public(), key.public());
        if kind == KeyType::Consensus
            && let Ok((public, seed)) = softsign::secret_of(&file.0, form)
        {
            assert_eq!(&public, key.public());
            if public.as_bytes().len() == 32 {
                let made = softsign::SoftKey::from_seed(&seed).expect("32 bytes");
                assert_eq!(made.public(), key.public());
            }
        }
    }
    if let Ok((public, _)) = softsign::import(&file.0, &imported.0, None) {
        let (key, _) = softsign::load(&imported.0, Form::Base64, KeyType::Consensus).expect("it was made here");
        assert_eq!(key.public(), &public);
    }
    match Identity::load(&file.0) {
        Ok(identity) => assert_eq!(identity.node_id().len(), 40),
        Err(error) => tells_nothing(&error),
    }
});
