//! Events go in without anybody waiting, come out through the views, and do not pile up.

use super::database::{Database, RESTORATIONS_MAX};
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
    let events = Events::open(place.path(), None).unwrap();
    let other = events.clone();
    for number in 0..500 {
        other.record(Event::restored(number == 0));
    }
    assert_eq!((other.dropped(), other.failed()), (0, 0));
    drop((events, other));
    let db = look(&place);
    assert_eq!(rows(&db, "SELECT count(*) FROM event"), ["500"]);
    let expected = ["complete", "partial"].map(|what| {
        format!("HTTP::statistics cardano_database_restoration {{\"headers\":{{}},\"content\":\"{what}\"}}")
    });
    assert_eq!(rows(&db, "SELECT source, action, content FROM event LIMIT 2"), expected);
}

#[test]
fn when_the_disk_stands_still_nobody_waits_and_drops_are_counted() {
    let place = tempfile::tempdir().unwrap();
    let events = Events::open(place.path(), None).unwrap();
    // Somebody holds the file: the writer waits.
    let held = look(&place);
    held.execute_batch("BEGIN IMMEDIATE").unwrap();
    let begun = Instant::now();
    for _ in 0..20_000 {
        events.record(Event::used("proofs", 1, Duration::from_secs(10), "", ""));
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
    let mut db = Database::open(place.path(), None).unwrap();
    let one = |version: Option<&str>, epoch, party: &str, stake: u64| {
        Event::registration(version, epoch, json!({"party_id": party, "stake": stake}))
    };
    let events = [
        one(Some("1.0"), 7, "a", 100),
        one(Some("1.0"), 7, "a", 100),
        one(Some("1.1+abc"), 7, "b", 300),
        one(Some("1.0"), 7, "c", 200),
        // It updates within the round: what it said last counts, once.
        one(Some("1.1"), 7, "a", 100),
        one(Some("1.0"), 10, "a", 50),
        one(None, 10, "b", 50),
    ];
    db.add(&events).unwrap();
    assert_eq!(db.rows(), 6);
    let view = "signer_registration_summary";
    let columns = rows(&look(&place), &format!("SELECT name FROM pragma_table_info('{view}')"));
    let expected = ["epoch", "version", "total_epoch_stakes", "stakes_version", "stakes_ratio", "pool_count"];
    assert_eq!(columns, expected);
    assert_eq!(
        rows(&look(&place), &format!("SELECT * FROM {view}")),
        ["10 1.0 100 50 50 % 1", "10 - 100 50 50 % 1", "7 1.1 600 400 67 % 2", "7 1.0 600 200 33 % 1"]
    );
    assert_eq!(rows(&look(&place), &format!("SELECT DISTINCT typeof(epoch) FROM {view}")), ["integer"]);
    // Anybody can repeat a registration under any header.
    let replays: Vec<_> = (0..1000).map(|number| one(Some(&format!("{number}")), 7, "a", 100)).collect();
    db.add(&replays).unwrap();
    assert!(db.rows() < 16, "{}", db.rows());
    let long = one(Some(&"x\n".repeat(9999)), 9, "c", 1);
    assert_eq!(long.content["headers"]["signer-node-version"], "x".repeat(HEADER_MAX));
}

#[test]
fn usage_is_what_the_counters_rose_by() {
    let (recorder, metrics) = semel_ops::metrics::Metrics::local().unwrap();
    let mut usage = Usage::new(Duration::from_secs(10));
    let told = |events: Vec<Event>| {
        let tell = |event: &Event| {
            let content = &event.content["content"];
            assert_eq!((event.source, content["name"].as_str()), ("Metrics", Some(event.action.as_str())));
            assert_eq!(content["period"], json!({"secs": 10, "nanos": 0}));
            assert!(content["date"].as_str().unwrap().parse::<DateTime<Utc>>().is_ok());
            assert_eq!(content.as_object().unwrap().len(), 6);
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
        assert!(usage.is_due());
        assert_eq!(
            told(usage.report(&metrics.render())),
            [
                "certificate_detail_total_served_since_startup 1 \"NA\" \"NA\"",
                "mithril_aggregator_cardano_db_complete_restoration_since_startup 2 \"EXPLORER\" \"CLI\"",
                "mithril_aggregator_runtime_cycle_total_since_startup 9 \"\" \"\"",
                "mithril_aggregator_signature_registration_total_received_since_startup 5 \"HTTP\" \"\"",
            ]
        );
        assert!(!usage.is_due());
        assert_eq!(usage.report(&metrics.render()), []);
        ByOrigin::Signatures.add("HTTP", 3);
        assert_eq!(
            told(usage.report(&metrics.render())),
            ["mithril_aggregator_signature_registration_total_received_since_startup 3 \"HTTP\" \"\""]
        );
    });
}

/// Usage told at a time.
fn used(at: DateTime<Utc>, origin: &str, client: &str) -> Event {
    let mut event = Event::used("proofs", 3, Duration::from_secs(10), origin, client);
    event.at = at;
    event.content["content"]["date"] = at.to_rfc3339().into();
    event
}

const VIEWS: [&str; 3] = ["metrics_per_day", "metrics_per_day_and_origin", "metrics_per_day_and_client_type"];

#[test]
fn days_that_are_over_are_summed_up_and_the_views_say_the_same() {
    let place = tempfile::tempdir().unwrap();
    let mut db = Database::open(place.path(), None).unwrap();
    let now: DateTime<Utc> = "2026-11-21T12:00:00Z".parse().unwrap();
    let mut events = Vec::new();
    for hours in 0..72 {
        for (origin, client) in [("A", "CLI"), ("A", ""), ("B", "CLI")] {
            events.push(used(now - TimeDelta::hours(hours), origin, client));
        }
    }
    db.add(&events).unwrap();
    let table = || VIEWS.map(|view| rows(&look(&place), &format!("SELECT * FROM {view} ORDER BY 1, 2, 3")));
    let before = table();
    let days = ["2026-11-18 proofs 99", "2026-11-19 proofs 216", "2026-11-20 proofs 216", "2026-11-21 proofs 117"];
    assert_eq!(before[0], days);
    assert_eq!(before[1][..2], ["2026-11-18 proofs A 66", "2026-11-18 proofs B 33"]);
    assert_eq!(before[2][..2], ["2026-11-18 proofs  33", "2026-11-18 proofs CLI 66"]);
    for _ in 0..2 {
        db.tidy(now).unwrap();
        assert_eq!(table(), before);
        // Thirteen hours of today, and three rows for each day before.
        assert_eq!(db.rows(), 13 * 3 + 3 * 3);
    }
    let shapes = "SELECT DISTINCT (SELECT group_concat(key) FROM json_each(content, '$.content')) FROM event";
    let shape: Vec<_> = rows(&look(&place), shapes).iter().map(|keys| keys.split(',').count()).collect();
    assert!(shape.iter().all(|fields| *fields == 6), "{shape:?}");
    // Nothing is too old when nobody says so.
    db.tidy(now + TimeDelta::days(36_500)).unwrap();
    assert_eq!(table(), before);
    drop(db);
    let mut db = Database::open(place.path(), Some(30)).unwrap();
    db.tidy(now + TimeDelta::days(29)).unwrap();
    assert_eq!(db.rows(), 3, "the newest day is not too old yet");
    db.tidy(now + TimeDelta::days(31)).unwrap();
    assert_eq!(db.rows(), 0);
}

#[test]
fn a_day_has_only_so_many_rows() {
    let place = tempfile::tempdir().unwrap();
    let mut db = Database::open(place.path(), None).unwrap().with_usage_max(1000);
    let now: DateTime<Utc> = "2026-11-21T12:00:00Z".parse().unwrap();
    for batch in 0..10 {
        db.add(
            &(0..300)
                .map(|number| used(now + TimeDelta::milliseconds(batch * 300 + number), "A", ""))
                .collect::<Vec<_>>(),
        )
        .unwrap();
        if db.is_full() {
            db.tidy(now).unwrap();
        }
        assert!(db.rows() <= 1010);
    }
    assert_eq!(rows(&look(&place), "SELECT * FROM metrics_per_day"), ["2026-11-21 proofs 9000"]);
    let restored = |days: i64| {
        let mut event = Event::restored(true);
        event.at = Utc::now() + TimeDelta::days(days);
        event
    };
    let count = |place: &TempDir| -> u64 {
        rows(&look(place), &format!("SELECT count(*) FROM event WHERE action = '{RESTORATION}'"))
            .concat()
            .parse()
            .unwrap()
    };
    for _ in 0..2 {
        db.add(&vec![restored(1); 7000]).unwrap();
    }
    assert_eq!(count(&place), RESTORATIONS_MAX);
    db.add(&[restored(2)]).unwrap();
    assert_eq!(count(&place), RESTORATIONS_MAX + 1);
    // A start in between does not begin anew.
    let other = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        Database::open(other.path(), None).unwrap().add(&vec![restored(0); 7000]).unwrap();
    }
    assert_eq!(count(&other), RESTORATIONS_MAX);
}

/// A file as the reference leaves it at a version.
fn reference(place: &TempDir, version: i64) -> Connection {
    let file = Connection::open(place.path().join(FILE)).unwrap();
    file.execute_batch(&format!(
        "CREATE TABLE event (event_id integer PRIMARY KEY AUTOINCREMENT, created_at text NOT NULL, source text NOT NULL, \
             action text NOT NULL, content text NULL); \
         CREATE TABLE db_version (application_type text PRIMARY KEY NOT NULL, version integer NOT NULL, updated_at text); \
         INSERT INTO db_version VALUES ('aggregator', {version}, '');"
    ))
    .unwrap();
    if version > 1 {
        // A view of the same name, whatever it says.
        file.execute_batch("CREATE VIEW metrics_per_day AS SELECT 1 AS date, 2 AS counter_name, 3 AS value").unwrap();
    }
    file
}

#[test]
fn what_a_reference_wrote_stays_as_it_is() {
    let place = tempfile::tempdir().unwrap();
    let file = reference(&place, 5);
    let old = "2021-01-01T00:00:00.000000001+00:00";
    let content = used(old.parse().unwrap(), "A", "CLI").content.to_string();
    for _ in 0..3 {
        file.execute("INSERT INTO event VALUES (NULL, ?1, 'Metrics', 'proofs', ?2)", (old, &content)).unwrap();
    }
    drop(file);
    let theirs = || rows(&look(&place), "SELECT * FROM event WHERE event_id <= 3");
    let before = theirs();
    let mut db = Database::open(place.path(), None).unwrap();
    db.add(&[used(old.parse().unwrap(), "A", "CLI"), used(old.parse().unwrap(), "A", "CLI")]).unwrap();
    db.tidy(Utc::now()).unwrap();
    assert_eq!((theirs(), db.rows()), (before, 4));
    assert_eq!(rows(&look(&place), "SELECT * FROM metrics_per_day"), ["2021-01-01 proofs 15"]);
}

#[test]
fn files_of_later_versions_are_left_alone_and_those_of_earlier_ones_are_brought_here() {
    let place = tempfile::tempdir().unwrap();
    drop(Events::open(place.path(), None).unwrap());
    look(&place).execute_batch("UPDATE db_version SET version = 6").unwrap();
    let before = std::fs::read(place.path().join(FILE)).unwrap();
    let refused = Events::open(place.path(), None).unwrap_err();
    assert!(refused.to_string().ends_with("is of version 6; this program knows version 5"), "{refused}");
    assert_eq!(std::fs::read(place.path().join(FILE)).unwrap(), before);
    for version in 1..=5 {
        let place = tempfile::tempdir().unwrap();
        drop(reference(&place, version));
        Events::migrate(place.path()).unwrap();
        let db = look(&place);
        assert_eq!(rows(&db, "SELECT application_type, version FROM db_version"), ["aggregator 5"]);
        let views = rows(&db, "SELECT name FROM sqlite_master WHERE type = 'view' ORDER BY 1");
        assert_eq!(views, [VIEWS[0], VIEWS[2], VIEWS[1], "signer_registration_summary"]);
        let index = "SELECT count(*) FROM sqlite_master WHERE type = 'index' AND name = 'metric_date_index'";
        assert_eq!(rows(&db, index), ["1"]);
        assert_eq!(rows(&db, "SELECT * FROM metrics_per_day"), [""; 0]);
    }
    // One with ids of text.
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
    let mut db = Database::open(other.path(), None).unwrap();
    let old = Utc::now() - TimeDelta::days(2);
    db.add(&[used(old, "A", ""), used(old, "A", ""), Event::restored(false)]).unwrap();
    db.tidy(Utc::now()).unwrap();
    assert_eq!((db.rows(), rows(&look(&other), "SELECT value FROM metrics_per_day")), (2, vec!["6".to_owned()]));
}
