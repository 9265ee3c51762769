//! `config migrate`
use clap::Args;
use semel_ops::error::Report;
use semel_ops::shell::Shell;
/// `config migrate`
#[derive(Debug, Args)]
pub struct Migrate {}
impl Migrate {
    pub(super) fn run(&self, _shell: &Shell) -> Result<(), Report> {
        Ok(())
    }
}
