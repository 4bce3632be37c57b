use std::process::ExitCode;

use super::Session;
use crate::{
    installation::Lock,
    problem::Result,
    services::supervisor_report,
    status::{collect, page},
};

/// Shows the page once. The exit code says whether everything runs.
pub async fn run(session: &Session) -> Result<ExitCode> {
    let services = session.services()?;
    let installation = services.installation();
    // A report without a supervisor is that of an earlier life.
    let runs = Lock::is_held(&installation.root().join("lock"));
    let report = if runs { supervisor_report(installation).ok() } else { None };
    let (status, _) = collect(&services, report.as_ref(), &session.clock).await;
    session.out.result(&status, page(&status))?;
    Ok(if status.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
