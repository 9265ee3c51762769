//! `yubihsm setup`: erases a device and sets it up, from 24 words that can do it again.

use super::super::keyring::hsm_report;
use super::super::{key_report, said};
use super::{Setup, device, serial, session};
use semel_keys::write_new;
use semel_keys::yubihsm::provision::{BadWords, Provision};
use semel_keys::yubihsm::setup::erase_device_and_init_with_profile;
use semel_ops::clock::{rfc_3339, seconds};
use semel_ops::error::Report;
use semel_ops::shell::Shell;
use std::io::{BufRead, Read};
use zeroize::Zeroizing;

/// Longest line of words that is read, in bytes.
const WORDS_MAX: u64 = 1024;

pub(super) fn run(command: &Setup, shell: &Shell) -> Result<(), Report> {
    let bad = |error: BadWords| Report::of(&error).hint("write the words as they were shown, separated by spaces");
    if let Some(path) = command.write_report.as_deref().filter(|path| path.exists()) {
        return Err(Report::new(format!("{}: the file exists, and a report is never written over", path.display())));
    }
    let (_, place) = device(&command.configs)?;
    let client = session(&place)?;
    let serial = serial(&client, &place)?;
    let provision = if command.restore {
        said(shell.line("Restoring and reprovisioning YubiHSM from existing 24-word mnemonic phrase."))?;
        said(shell.line("*** Enter mnemonic (separate words with spaces):"))?;
        Provision::restore(&line()?).map_err(bad)?
    } else {
        let random = client.get_pseudo_random(32).map_err(|error| hsm_report(&place.failed(&error)))?;
        let device = Zeroizing::new(random);
        let device = device.first_chunk::<32>().ok_or_else(|| Report::new("the device gave too few random bytes"))?;
        let mut host = Zeroizing::new([0; 32]);
        getrandom::fill(host.as_mut()).map_err(|error| Report::new(format!("no randomness: {error}")))?;
        Provision::generate(device, &host).map_err(bad)?
    };
    show(&provision, &serial, shell).map_err(|error| error.unwrap_or_else(|| bad(BadWords)))?;
    if command.print_only {
        return Ok(());
    }
    said(shell.line("*** Are you SURE you want erase and reinitialize this HSM? (y/N): "))?;
    if !matches!(line()?.trim(), "y" | "Y") {
        return Err(Report::new("aborting"));
    }
    // The device ends all sessions, and what opened this one.
    drop(client);
    let profile = provision.profile(&rfc_3339(seconds())).map_err(bad)?;
    let done = erase_device_and_init_with_profile(
        place.connector().map_err(|error| hsm_report(&error))?,
        place.credentials(),
        profile,
    );
    let report = done.map_err(|error| {
        Report::new("the YubiHSM was not set up")
            .cause(&error)
            .hint("reset the device by hand, and run this again with --restore")
    })?;
    shell.status("Success", format!("reinitialized YubiHSM (serial: {})", report.device_serial_number));
    if let Some(path) = &command.write_report {
        write_new(path, report.to_json().as_bytes(), None).map_err(|error| key_report(&error))?;
        shell.status("Wrote", path.display());
    }
    Ok(())
}

/// One line of standard input.
fn line() -> Result<Zeroizing<String>, Report> {
    let mut text = Zeroizing::new(String::new());
    let read = std::io::stdin().lock().take(WORDS_MAX).read_line(&mut text);
    read.map_err(|error| Report::new("standard input cannot be read").cause(&error))?;
    Ok(text)
}

/// Prints everything that has to be kept. None: the words cannot be derived from.
fn show(provision: &Provision, serial: &str, shell: &Shell) -> Result<(), Option<Report>> {
    let line = |text: &str| said(shell.line(text)).map_err(Some);
    line(&format!(
        "This process will *ERASE* the configured YubiHSM2 and reinitialize it:\n\n- YubiHSM serial: {serial}\n"
    ))?;
    line("Authentication keys with the following IDs and passwords will be created:\n")?;
    for (role, number, password) in provision.passwords().map_err(|_| None)? {
        if role == "admin" {
            let words: Vec<&str> = password.split(' ').collect();
            let (first, second) = words.split_at_checked(12).ok_or(None)?;
            let text = Zeroizing::new(format!(
                "- key {number:#06x}: {role}:\n\n    {}\n    {}\n",
                first.join(" "),
                second.join(" ")
            ));
            line(&text)?;
        } else {
            let text = Zeroizing::new(format!("- authkey {number:#06x} [{role}]: {}", password.as_str()));
            line(&text)?;
        }
    }
    let key = Zeroizing::new(hex::encode(provision.wrap_key().map_err(|_| None)?.as_slice()));
    let text = Zeroizing::new(format!("- wrapkey 0x0001 [primary]: {}\n", key.as_str()));
    line(&text)
}
