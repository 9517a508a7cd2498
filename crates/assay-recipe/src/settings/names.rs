//! Settings against the stack that they speak of: a service or secret that there is not was misspelt.

use super::{FILE, Settings, near::did_you_mean};
use crate::problem::{Problem, shown};

impl Settings {
    /// Settings that name a service or a secret which the stack does not have. `services` are the services' names, `secrets`
    /// the compose keys of its secrets.
    ///
    /// The loader cannot say this: which services there are depends on the app's variables.
    pub fn unknown_names(&self, services: &[&str], secrets: &[&str]) -> Vec<Problem> {
        let mut of_services: Vec<(String, &str)> = Vec::new();
        for service in self.deploy.tolerate_restarts.keys() {
            of_services.push((format!("deploy.tolerate_restarts.{service}"), service));
        }
        // Who waits stands above as well.
        for (service, until) in &self.deploy.tolerate_until {
            of_services.push((format!("deploy.tolerate_until.{service}"), until));
        }
        of_services
            .extend(self.http.service.iter().map(|service| ("http.service".to_owned(), service.as_str())));
        for (index, database) in self.databases.iter().enumerate() {
            of_services.push((format!("databases[{index}].service"), &database.service));
        }
        let mut of_secrets: Vec<(String, &str)> = Vec::new();
        for key in self.deploy.secrets.keys() {
            of_secrets.push((format!("deploy.secrets.{key}"), key));
        }
        for (index, dependency) in self.dependencies.iter().enumerate() {
            for key in dependency.secrets.keys() {
                of_secrets.push((format!("dependencies[{index}].secrets.{key}"), key));
            }
        }
        let unknown = |names: Vec<(String, &str)>, what: &str, known: &[&str]| -> Vec<Problem> {
            let unknown = names.into_iter().filter(|(_, name)| !known.contains(name));
            let problem = |(path, name): (String, &str)| {
                let list = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                let message = format!(
                    "the stack has no {what} `{}`; it has {list}{}",
                    shown(name),
                    did_you_mean(name, known)
                );
                Problem::new(FILE, 0, &path, message)
            };
            unknown.map(problem).collect()
        };
        let mut problems = unknown(of_services, "service", services);
        problems.extend(unknown(of_secrets, "secret", secrets));
        problems
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::LoadedSettings;

    #[test]
    fn names_that_the_stack_does_not_have_are_told() {
        let text = r#"
[deploy]
tolerate_restarts = { app = 5, worker = 5 }
tolerate_until = { app = "dbb" }
secrets = { smtp_pasword = "x" }
[http]
service = "web"
[[databases]]
kind = "postgres"
service = "bd"
[[dependencies]]
name = "sso"
provider = "oidc"
secrets = { oidc = "{client_secret}" }
"#;
        let settings = LoadedSettings::read(text).unwrap().settings;
        let problems = settings.unknown_names(&["app", "db"], &["smtp_password"]);
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(problems.join("\n"), @"
        assay.toml: deploy.tolerate_restarts.worker: the stack has no service `worker`; it has app, db
        assay.toml: deploy.tolerate_until.app: the stack has no service `dbb`; it has app, db; did you mean `db`?
        assay.toml: http.service: the stack has no service `web`; it has app, db
        assay.toml: databases[0].service: the stack has no service `bd`; it has app, db; did you mean `db`?
        assay.toml: deploy.secrets.smtp_pasword: the stack has no secret `smtp_pasword`; it has smtp_password; did you mean `smtp_password`?
        assay.toml: dependencies[0].secrets.oidc: the stack has no secret `oidc`; it has smtp_password
        ");
        assert!(
            settings
                .unknown_names(&["app", "worker", "web", "bd", "dbb"], &["smtp_pasword", "oidc"])
                .is_empty()
        );
    }
}
