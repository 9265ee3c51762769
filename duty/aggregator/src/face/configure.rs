//! `config`: check, show, explain, init.

use super::args::{Config, Globals};
use super::command::layers;
use super::settings::{Need, NetworkName, ROWS, Row, Settings, find, nearest};
use super::tools::said;
use semel_ops::error::{Exit, Report};
use semel_ops::shell::Shell;
use serde_json::json;
use std::fmt::Write as _;

/// Does what the verb says.
pub(super) fn run(verb: Config, globals: &Globals, shell: &Shell) -> Result<(), Report> {
    match verb {
        Config::Check { from, json } => {
            let outcome = Settings::read_to_start(layers(globals, &from));
            let is_fine = outcome.value.is_some();
            if json {
                said(shell.json(&outcome.found.to_json()))?;
            } else if is_fine {
                shell.diagnostics(&outcome.found);
                said(shell.line("the configuration is complete: the server would start with it"))?;
            }
            match (is_fine, json) {
                (true, _) => Ok(()),
                (false, false) => Err(outcome.found.into()),
                (false, true) => Err(Report::new(outcome.found.summary())),
            }
        }
        Config::Show { from, origin, json } => {
            let layers = layers(globals, &from);
            let shown = layers.shown();
            if json {
                let rows = shown.into_iter().map(|(row, value)| {
                    let (value, origin) = value.unzip();
                    json!({ "variable": row.variable(), "value": value, "origin": origin.map(|origin| origin.to_string()) })
                });
                return said(shell.json(&rows.collect::<Vec<_>>()));
            }
            for (row, value) in shown {
                let line = match value {
                    Some((value, from)) if origin => format!("{}={value}  # {from}", row.variable()),
                    Some((value, _)) => format!("{}={value}", row.variable()),
                    None => format!("# {} is not set", row.variable()),
                };
                said(shell.line(line))?;
            }
            Ok(())
        }
        Config::Explain { variable: Some(name) } => explain(&name, shell),
        Config::Explain { variable: None } => {
            ROWS.iter().try_for_each(|row| said(shell.line(format!("{:<66} {}", row.variable(), row.about))))
        }
        Config::Init { network, follower } => {
            let text = template(&network, follower).ok_or_else(|| {
                let hint = "mainnet, preprod, preview or devnet";
                Report::new("there is no such network").hint(hint).exit(Exit::Misuse)
            })?;
            said(shell.data(text.as_bytes()))
        }
    }
}

fn explain(name: &str, shell: &Shell) -> Result<(), Report> {
    let key = name.to_lowercase().replace("__", ".");
    let Some(row) = find(&key) else {
        let report = Report::new("there is no such setting").code_id("AGG-0008").exit(Exit::Misuse);
        return Err(match nearest(name) {
            Some(meant) => report.hint(format!("did you mean {meant}?")),
            None => report,
        });
    };
    said(shell.data(explanation(row).as_bytes()))
}

fn explanation(row: &Row) -> String {
    let needed = match row.need {
        Need::Optional => "no".to_owned(),
        Need::Always => "always".to_owned(),
        Need::When(case) => format!("when {case}"),
    };
    let mut text = format!("{}\n  {}\n", row.variable(), row.about);
    let default = row.default.unwrap_or("none");
    // Writing to a string does not fail.
    let _ = writeln!(text, "  default: {default}\n  needed: {needed}\n  in the configuration file: {}", row.key);
    if row.is_secret {
        text.push_str("  a secret: never shown\n");
    }
    text
}

/// An environment file to start with.
fn template(network: &str, follower: bool) -> Option<String> {
    let (name, magic, parameters) = match network.to_lowercase().as_str() {
        "mainnet" => (NetworkName::Mainnet, 764_824_073, (1944, 16948, "0.20")),
        "preprod" => (NetworkName::Preprod, 1, (5, 100, "0.70")),
        "preview" => (NetworkName::Preview, 2, (5, 100, "0.70")),
        "devnet" => (NetworkName::Devnet, 42, (5, 100, "0.70")),
        _ => return None,
    };
    let public = name.mithril_network().map(|name| {
        let base = "https://raw.githubusercontent.com/IntersectMBO/mithril/main/mithril-infra/configuration";
        (name, format!("{base}/{name}"))
    });
    let (key_source, era_source) = match &public {
        Some((_, base)) => {
            (format!("wget -q -O - {base}/genesis.vkey"), format!("{base}/era.addr and {base}/era.vkey"))
        }
        None => ("genesis generate-keypair --target-path DIR".to_owned(), "your own".to_owned()),
    };
    let role = match (follower, &public) {
        (true, Some((name, _))) => {
            format!("LEADER_AGGREGATOR_ENDPOINT=https://aggregator.{name}.api.mithril.network/aggregator\n")
        }
        (true, None) => "LEADER_AGGREGATOR_ENDPOINT=http://localhost:8080/aggregator\n".to_owned(),
        (false, _) => {
            let (k, m, phi_f) = parameters;
            format!("PROTOCOL_PARAMETERS__K={k}\nPROTOCOL_PARAMETERS__M={m}\nPROTOCOL_PARAMETERS__PHI_F={phi_f}\n")
        }
    };
    Some(format!(
        "# Mithril aggregator on {name}. `config check --env-file FILE` says what is missing, `config explain NAME` what a name means.\n\
         NETWORK={name}\n\
         NETWORK_MAGIC={magic}\n\
         {role}\
         SIGNED_ENTITY_TYPES=MithrilStakeDistribution,CardanoStakeDistribution,CardanoTransactions\n\
         SERVER_PORT=8080\n\
         PUBLIC_SERVER_URL=https://aggregator.example.com/aggregator\n\
         RUN_INTERVAL=60000\n\
         STORE_RETENTION_LIMIT=5\n\
         CARDANO_NODE_SOCKET_PATH=/cardano/ipc/node.socket\n\
         CARDANO_NODE_VERSION=10.7.1\n\
         DB_DIRECTORY=/cardano/db\n\
         DATA_STORES_DIRECTORY=/opt/mithril/stores\n\
         # {key_source}\n\
         GENESIS_VERIFICATION_KEY=\n\
         # Production networks announce their eras on the chain, see {era_source}:\n\
         # ERA_READER_ADAPTER_TYPE=cardano-chain\n\
         # ERA_READER_ADAPTER_PARAMS={{\"address\": \"…\", \"verification_key\": \"…\"}}\n\
         # With CardanoDatabase among the types:\n\
         # SNAPSHOT_UPLOADER_TYPE=local\n\
         # SNAPSHOT_DIRECTORY=/opt/mithril/snapshots\n\
         # ANCILLARY_FILES_SIGNER_CONFIG={{\"type\": \"secret-key\", \"secret_key\": \"…\"}}\n\
         # ENABLE_METRICS_SERVER=true\n"
    ))
}
