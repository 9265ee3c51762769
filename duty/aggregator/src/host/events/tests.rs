//! Events go in without anybody waiting, come out through the views, and do not pile up.

use super::database::Database;
use super::usage::Usage;
use super::*;
use crate::face::metrics::{ByClient, ByOrigin, ClientType, Plain};
use chrono::TimeDelta;
use rusqlite::Connection;
use tempfile::TempDir;

fn look(place: &TempDir) -> Connection {
    Connection::open(place.path().join(FILE)).unwrap()
}

fn rows(db: &Connection, sql: &str) -> Vec<String> {
    let mut statement = db.prepare(sql).unwrap();
    let count = statement.column_count();
    let rows = statement.query_map([], |row| {
        let cells = (0..count).map(|index| match row.get::<_, rusqlite::types::Value>(index).unwrap() {
            rusqlite::types::Value::Null => "-".to_owned(),
            rusqlite::types::Value::Integer(number) => number.to_string(),
            rusqlite::types::Value::Text(text) => text,
            other => format!("{other:?}"),
        });
        Ok(cells.collect::<Vec<_>>().join(" "))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

#[test]
fn what_is_recorded_is_there_after_the_last_handle_is_gone() {
    let place = tempfile::tempdir().unwrap();
    let events = Events::open(place.path(), 30).unwrap();
    let other = events.clone();
    for number in 0..500 {
        other.record(Event::restored("complete-restoration", "EXPLORER", "CLI", json!({"number": number})));
    }
    assert_eq!((other.dropped(), other.failed()), (0, 0));
    drop((events, other));
    let db = look(&place);
    assert_eq!(rows(&db, "SELECT count(*) FROM event"), ["500"]);
    let expected = "HTTP::statistics cardano_database_complete_restoration \
        {\"headers\":{\"mithril-origin-tag\":\"EXPLORER\",\"mithril-client-type\":\"CLI\"},\"content\":{\"number\":0}}";
    assert_eq!(rows(&db, "SELECT source, action, content FROM event LIMIT 1"), [expected]);
}

#[test]
fn when_the_disk_stands_still_nobody_waits_and_drops_are_counted() {
    let place = tempfile::tempdir().unwrap();
    let events = Events::open(place.path(), 30).unwrap();
    // Somebody holds the file: the writer waits.
    let held = look(&place);
    held.execute_batch("BEGIN IMMEDIATE").unwrap();
    let begun = Instant::now();
    for _ in 0..20_000 {
        events.record(Event::restored("partial-restoration", "NA", "NA", Value::Null));
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let dropped = events.dropped();
    assert!(dropped >= 20_000 - (QUEUE_MAX + 2 * BATCH_MAX) as u64, "{dropped}");
    held.execute_batch("COMMIT").unwrap();
    drop(events);
    let kept: u64 = rows(&look(&place), "SELECT count(*) FROM event").concat().parse().unwrap();
    assert_eq!(kept + dropped, 20_000);
}

#[test]
fn the_stake_of_each_version_of_signers_is_told_by_epoch() {
    let place = tempfile::tempdir().unwrap();
    let mut db = Database::open(place.path(), 30).unwrap();
    let one = |version: &str, epoch, party: &str, stake| Event::signer_registered(Some(version), epoch, party, stake);
    let events = [
        one("1.0", 7, "a", 100),
        one("1.0", 7, "a", 100),
        one("1.1", 7, "b", 300),
        // It updates within the round: what it said last counts, once.
        one("1.1", 7, "a", 100),
        one("1.0", 8, "a", 50),
        Event::signer_registered(None, 8, "b", 50),
    ];
    db.add(&events).unwrap();
    assert_eq!(db.rows(), 5);
    let table = rows(&look(&place), "SELECT * FROM signer_registration_summary ORDER BY epoch, version");
    assert_eq!(table, ["7 1.1 2 400 400 100 %", "8 - 1 100 50 50 %", "8 1.0 1 100 50 50 %"]);
    // Anybody can repeat a registration under any header.
    let replays: Vec<_> = (0..1000).map(|number| one(&format!("{number}"), 7, "a", 100)).collect();
    db.add(&replays).unwrap();
    assert!(db.rows() < 15, "{}", db.rows());
    let long = Event::signer_registered(Some(&"x\n".repeat(9999)), 9, "c", 1);
    assert_eq!(long.content["headers"]["signer-node-version"], "x".repeat(HEADER_MAX));
}

#[test]
fn usage_is_what_the_counters_rose_by() {
    let (recorder, metrics) = semel_ops::metrics::Metrics::local().unwrap();
    let mut usage = Usage::default();
    let told = |events: Vec<Event>| {
        let tell = |event: &Event| {
            let content = &event.content["content"];
            format!("{} {} {} {}", event.action, content["value"], content["origin"], content["client_type"])
        };
        let mut told: Vec<_> = events.iter().map(tell).collect();
        told.sort();
        told
    };
    metrics::with_local_recorder(&recorder, || {
        crate::face::metrics::start();
        ByClient::CompleteRestoration.add("EXPLORER", ClientType::Cli, 2);
        ByClient::CertificateDetail.add("NA", ClientType::Na, 1);
        ByOrigin::Signatures.add("HTTP", 5);
        Plain::Cycles.add(9);
        assert_eq!(
            told(usage.report(&metrics.render())),
            [
                "cardano_db_complete_restoration 2 \"EXPLORER\" \"CLI\"",
                "certificate_detail_total_served 1 \"NA\" \"NA\"",
                "signature_registration_total_received 5 \"HTTP\" null",
            ]
        );
        assert_eq!(usage.report(&metrics.render()), []);
        ByOrigin::Signatures.add("HTTP", 3);
        assert_eq!(told(usage.report(&metrics.render())), ["signature_registration_total_received 3 \"HTTP\" null"]);
    });
}

#[test]
fn days_that_are_over_are_summed_up_and_the_views_say_the_same() {
    let place = tempfile::tempdir().unwrap();
    let mut db = Database::open(place.path(), 30).unwrap();
    let now: DateTime<Utc> = "2026-11-21T12:00:00Z".parse().unwrap();
    let mut events = Vec::new();
    for hours in 0..72 {
        for (origin, client) in [("A", "CLI"), ("A", "NA"), ("B", "CLI")] {
            let mut event = Event::used("proofs", 3, Duration::from_secs(10), Some(origin), Some(client));
            event.at = now - TimeDelta::hours(hours);
            events.push(event);
        }
    }
    db.add(&events).unwrap();
    let views = ["metrics_per_day", "metrics_per_day_and_origin", "metrics_per_day_and_client_type"];
    let table = || views.map(|view| rows(&look(&place), &format!("SELECT * FROM {view} ORDER BY 1, 2, 3")));
    let before = table();
    let days = ["99 2026-11-18", "117 2026-11-21", "216 2026-11-19", "216 2026-11-20"];
    assert_eq!(before[0], days.map(|day| format!("proofs {day}")));
    for _ in 0..2 {
        db.tidy(now).unwrap();
        assert_eq!(table(), before);
        // Thirteen hours of today, and three rows for each day before.
        assert_eq!(db.rows(), 13 * 3 + 3 * 3);
    }
    db.tidy(now + TimeDelta::days(29)).unwrap();
    assert_eq!(db.rows(), 3, "the newest day is not too old yet");
    db.tidy(now + TimeDelta::days(31)).unwrap();
    assert_eq!(db.rows(), 0);
}

#[test]
fn there_are_never_more_rows_than_there_may_be() {
    let place = tempfile::tempdir().unwrap();
    let mut db = Database::open(place.path(), 30).unwrap().with_rows_max(1000);
    let event = |number: i64| {
        let mut event = Event::restored("partial-restoration", "NA", "NA", json!(number));
        event.at += TimeDelta::milliseconds(number);
        event
    };
    for batch in 0..10 {
        db.add(&(0..300).map(|number| event(batch * 300 + number)).collect::<Vec<_>>()).unwrap();
        if db.is_full() {
            db.tidy(Utc::now()).unwrap();
        }
        assert!(db.rows() <= 1000);
    }
    let newest = "SELECT max(json_extract(content, '$.content')) FROM event";
    assert_eq!(rows(&look(&place), newest), ["2999"]);
}

#[test]
fn files_of_other_versions_are_left_alone_and_a_references_file_is_gone_on_with() {
    let place = tempfile::tempdir().unwrap();
    drop(Events::open(place.path(), 30).unwrap());
    look(&place).execute_batch("UPDATE db_version SET version = 6").unwrap();
    let before = std::fs::read(place.path().join(FILE)).unwrap();
    let refused = Events::open(place.path(), 30).unwrap_err();
    assert!(refused.to_string().ends_with("is of version 6; this program knows version 5"), "{refused}");
    assert_eq!(std::fs::read(place.path().join(FILE)).unwrap(), before);
    // One with ids of text, and without our indexes.
    let other = tempfile::tempdir().unwrap();
    let file = Connection::open(other.path().join(FILE)).unwrap();
    file.execute_batch(
        "CREATE TABLE event (event_id text PRIMARY KEY NOT NULL, created_at text NOT NULL, source text NOT NULL, \
             action text NOT NULL, content json NOT NULL); \
         CREATE TABLE db_version (application_type text PRIMARY KEY NOT NULL, version integer NOT NULL, updated_at text); \
         INSERT INTO db_version VALUES ('aggregator', 5, '');",
    )
    .unwrap();
    drop(file);
    let mut db = Database::open(other.path(), 30).unwrap();
    let mut old = Event::used("proofs", 3, Duration::from_secs(10), Some("A"), None);
    old.at -= TimeDelta::days(2);
    db.add(&[old, Event::restored("partial-restoration", "NA", "NA", Value::Null)]).unwrap();
    db.tidy(Utc::now()).unwrap();
    assert_eq!((db.rows(), rows(&look(&other), "SELECT value FROM metrics_per_day")), (2, vec!["3".to_owned()]));
}
