//! Rows in databases, through the client that is in the database's own container: nothing is opened to the outside for it, and no
//! driver has to fit its version. Settings that are not given are those of the official images.
//!
//! Passwords go through the environment of the client alone, never through arguments, and are in no evidence.

use std::{fmt, time::Duration};

use assay_recipe::compose::model::{Compose, Service};
use assay_swarm::{CommandOutput, ContainerCommand, SwarmError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    BackupError, Site,
    hooks::{TROUBLE, end_of},
    store::readable,
};

/// What one question to a database may take.
const LIMIT: Duration = Duration::from_mins(1);

/// Reads a setting: the text itself, or the file in the container that holds it.
const SETTING: &str = r#"setting() {
    eval "text=\${ASSAY_$1-} file=\${ASSAY_$1_FILE-}"
    if [ -n "$file" ]; then cat "$file" || exit 97; else printf %s "$text"; fi
}
user=$(setting USER) && password=$(setting PASSWORD) && database=$(setting DATABASE) || exit 97
has() { command -v "$1" >/dev/null 2>&1; }
"#;
const POSTGRESQL: &str = r#"has psql || { echo 'there is no psql in the container' >&2; exit 96; }
[ -z "$password" ] || export PGPASSWORD="$password"
export PGCONNECT_TIMEOUT=20
exec psql -X -q -A -t -v ON_ERROR_STOP=1 -U "${user:-postgres}" -d "${database:-${user:-postgres}}"
"#;
const MARIADB: &str = r#"client=mariadb
has mariadb || client=mysql
has "$client" || { echo 'there is neither mariadb nor mysql in the container' >&2; exit 96; }
[ -z "$password" ] || export MYSQL_PWD="$password"
exec "$client" --batch --skip-column-names --connect-timeout=20 --user="${user:-root}" "$database"
"#;
const SQLITE: &str = r#"[ -f "$database" ] || { echo "there is no file $database in the container" >&2; exit 96; }
if has sqlite3; then exec sqlite3 -batch -bail -noheader -cmd '.timeout 20000' "$database"; fi
has python3 || { echo 'there is neither sqlite3 nor python3 in the container' >&2; exit 96; }
exec python3 -c 'import sqlite3, sys
at = sqlite3.connect(sys.argv[1], timeout=20, isolation_level=None)
for statement in sys.stdin.read().split(";\n"):
    for row in at.execute(statement):
        print("|".join(map(str, row)))' "$database"
"#;

/// A database, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// The service whose container has its client, by its name in the files.
    pub service: String,
    /// What it is.
    pub kind: DatabaseKind,
    /// As whom. Without: `postgres`, or `root`.
    pub user: Option<Setting>,
    /// With what password.
    pub password: Option<Setting>,
    /// Its name; for SQLite its path in the container. Without: the user's.
    pub database: Option<Setting>,
}

/// Kinds of databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DatabaseKind {
    /// PostgreSQL, by `psql`.
    PostgreSql,
    /// MariaDB or MySQL, by `mariadb` or `mysql`.
    MariaDb,
    /// SQLite, by `sqlite3` or the module of `python3`.
    Sqlite,
}

/// A setting, which may be secret: it is not shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Setting {
    /// The text itself.
    Text(String),
    /// A file in the container that holds it, such as `/run/secrets/db_password`.
    File(String),
}

/// Whether rows are in a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum RowsState {
    /// They are.
    Planted,
    /// It cannot be reached.
    Unreachable {
        /// Why, by its client or by Docker.
        why: String,
    },
}

/// What of the rows is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// So many as they were planted, and so many others with the token.
    Rows { right: u32, wrong: u32 },
    /// It cannot be asked.
    Unreachable(String),
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(…)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl Database {
    /// A SQLite file at a path in a service's container.
    pub fn sqlite(service: &str, path: &str) -> Self {
        Self {
            service: service.to_owned(),
            kind: DatabaseKind::Sqlite,
            user: None,
            password: None,
            database: Some(Setting::Text(path.to_owned())),
        }
    }

    /// Its name, as far as it is known. It is no secret.
    pub(crate) fn label(&self) -> String {
        match &self.database {
            Some(Setting::Text(name)) => name.clone(),
            Some(Setting::File(path)) => format!("named in {path}"),
            None => String::new(),
        }
    }

    fn command(&self, sql: &str) -> ContainerCommand {
        let client = match self.kind {
            DatabaseKind::PostgreSql => POSTGRESQL,
            DatabaseKind::MariaDb => MARIADB,
            DatabaseKind::Sqlite => SQLITE,
        };
        let mut command = ContainerCommand::shell(&format!("{SETTING}{client}"));
        let settings = [("USER", &self.user), ("PASSWORD", &self.password), ("DATABASE", &self.database)];
        for (name, setting) in settings {
            match setting {
                Some(Setting::Text(text)) => {
                    command.environment.push((format!("ASSAY_{name}"), text.clone()));
                }
                Some(Setting::File(path)) => {
                    command.environment.push((format!("ASSAY_{name}_FILE"), path.clone()));
                }
                None => {}
            }
        }
        sql.as_bytes().clone_into(&mut command.input);
        command
    }

    fn exists(&self) -> &'static str {
        match self.kind {
            DatabaseKind::PostgreSql => {
                "SELECT count(*) FROM information_schema.tables WHERE table_name = 'assay_witness' AND \
                 table_schema = ANY (current_schemas(false));\n"
            }
            DatabaseKind::MariaDb => {
                "SELECT count(*) FROM information_schema.tables WHERE table_name = 'assay_witness' AND \
                 table_schema = database();\n"
            }
            DatabaseKind::Sqlite => {
                "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'assay_witness';\n"
            }
        }
    }
}

/// The database servers of a stack, by what their services are told as the official images are: PostgreSQL, MariaDB, MySQL.
/// SQLite has no service of its own: [`Database::sqlite`].
pub fn detect(compose: &Compose) -> Vec<Database> {
    compose.services.iter().filter_map(|(name, service)| detect_in(name, service)).collect()
}

fn detect_in(name: &str, service: &Service) -> Option<Database> {
    let image = service.image.as_deref().unwrap_or_default();
    let image = image.split('@').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    let image = image.split(':').next().unwrap_or_default();
    let setting = |variable: &str| {
        let value =
            |name: &str| service.environment.get(name).and_then(Clone::clone).filter(|v| !v.is_empty());
        let file = value(&format!("{variable}_FILE")).map(Setting::File);
        value(variable).map(Setting::Text).or(file)
    };
    let either =
        |part: &str| setting(&format!("MARIADB_{part}")).or_else(|| setting(&format!("MYSQL_{part}")));
    // An app that is told where its database is has these variables as well, and is none.
    let is = |names: &[&str]| names.iter().any(|name| image.contains(name));
    let data = |paths: &[&str]| {
        service.mounts.iter().any(|mount| paths.iter().any(|path| mount.target.starts_with(path)))
    };
    let service = name.to_owned();
    if is(&["postgres", "postgis", "pgvector", "timescaledb"]) || data(&["/var/lib/postgresql"]) {
        let user = setting("POSTGRES_USER");
        let (password, database) = (setting("POSTGRES_PASSWORD"), setting("POSTGRES_DB"));
        return Some(Database { service, kind: DatabaseKind::PostgreSql, user, password, database });
    }
    if is(&["mariadb", "mysql", "percona"]) || data(&["/var/lib/mysql"]) {
        let kind = DatabaseKind::MariaDb;
        let database = either("DATABASE");
        // The user of the database first: root may be known by nobody.
        let (user, password) = match (either("USER"), either("PASSWORD")) {
            (Some(user), Some(password)) => (Some(user), Some(password)),
            _ => (None, either("ROOT_PASSWORD")),
        };
        return Some(Database { service, kind, user, password, database });
    }
    None
}

/// Puts rows with the token into a table of our own.
pub(crate) async fn plant(
    site: &Site<'_>,
    database: &Database,
    token: &str,
    count: u32,
) -> Result<RowsState, BackupError> {
    Ok(match ask(site, database, &insert(token, count)).await? {
        Ok(_) => RowsState::Planted,
        Err(why) => RowsState::Unreachable { why },
    })
}

/// Looks how many rows with the token there are, and whether they are what they were.
pub(crate) async fn find(
    site: &Site<'_>,
    database: &Database,
    token: &str,
    count: u32,
) -> Result<Found, BackupError> {
    let there = match ask(site, database, database.exists()).await? {
        Ok(answer) => answer,
        Err(why) => return Ok(Found::Unreachable(why)),
    };
    if there.trim() == "0" {
        return Ok(Found::Rows { right: 0, wrong: 0 });
    }
    let sql = format!("SELECT n, payload FROM assay_witness WHERE token = '{token}' ORDER BY n;\n");
    Ok(match ask(site, database, &sql).await? {
        Ok(answer) => compared(&answer, token, count),
        Err(why) => Found::Unreachable(why),
    })
}

async fn ask(site: &Site<'_>, database: &Database, sql: &str) -> Result<Result<String, String>, BackupError> {
    let container = match site.swarm.container_of(site.stack, &site.service(&database.service)).await {
        Err(error @ SwarmError::Missing { .. }) => return Ok(Err(error.to_string())),
        other => other?,
    };
    let output = match site.swarm.exec(&container, &database.command(sql), LIMIT).await {
        // The command is all script: it says nothing to whoever reads this.
        Err(SwarmError::Timeout { limit, .. }) => {
            return Ok(Err(format!("its client did not answer within {limit:?}")));
        }
        Err(SwarmError::Docker { message, hint, .. }) => {
            let why = format!("no client could be run in its container: {message}{hint}");
            return Ok(Err(readable(&why, TROUBLE)));
        }
        other => other?,
    };
    let CommandOutput { exit_code, stdout, stderr, .. } = output;
    if exit_code == 0 {
        return Ok(Ok(String::from_utf8_lossy(&stdout).into_owned()));
    }
    Ok(Err(format!("its client ended with {exit_code}: {}", end_of(&stderr))))
}

fn insert(token: &str, count: u32) -> String {
    let rows: Vec<String> =
        (1..=count).map(|n| format!("('{token}', {n}, '{}')", payload(token, n))).collect();
    format!(
        "CREATE TABLE IF NOT EXISTS assay_witness (token varchar(64), n integer, payload varchar(64));\n\
         INSERT INTO assay_witness (token, n, payload) VALUES {};\n",
        rows.join(", ")
    )
}

/// What a row holds: nothing that could be there by chance, and known from the token.
fn payload(token: &str, n: u32) -> String {
    hex::encode(&Sha256::digest(format!("{token}:{n}"))[..16])
}

fn compared(answer: &str, token: &str, count: u32) -> Found {
    let (mut right, mut wrong) = (0, 0);
    let mut expected = 1;
    for line in answer.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (n, found) = line.split_once(['|', '\t']).unwrap_or_default();
        let n: u32 = n.parse().unwrap_or_default();
        // In order, each once.
        if n >= expected && n <= count && found == payload(token, n) {
            right += 1;
            expected = n + 1;
        } else {
            wrong += 1;
        }
    }
    Found::Rows { right, wrong }
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
