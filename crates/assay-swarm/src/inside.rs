//! Inside of containers and volumes: commands, and files in and out. Backups, restores and hooks are made of these.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bollard::{
    body_try_stream,
    container::LogOutput,
    exec::{StartExecOptions, StartExecResults},
    models::{ContainerCreateBody, ExecConfig, HostConfig, Mount, MountType},
    query_parameters::{
        CreateContainerOptionsBuilder, DownloadFromContainerOptionsBuilder, RemoveContainerOptionsBuilder,
        UploadToContainerOptionsBuilder,
    },
};
use futures::StreamExt;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::io::ReaderStream;

use crate::{Observation, Swarm, SwarmError, TaskState};

/// Where a volume is seen in the container through which it is read and written.
const VOLUME: &str = "/volume";

/// Bytes kept of each stream of a command. More is read and dropped.
const OUTPUT: usize = 16 << 20;

/// A command for a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerCommand {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// As whom; the container's user without one.
    pub user: Option<String>,
    /// Where; the container's working directory without one.
    pub working_dir: Option<String>,
    /// Variables besides the container's.
    pub environment: Vec<(String, String)>,
    /// What it reads; nothing without.
    pub input: Vec<u8>,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CommandOutput {
    /// How it ended.
    pub exit_code: i64,
    /// What it wrote.
    pub stdout: Vec<u8>,
    /// What it complained of.
    pub stderr: Vec<u8>,
    /// Whether it wrote more than is kept: 16 MiB of each.
    pub truncated: bool,
    /// How long it took.
    pub took: Duration,
}

impl ContainerCommand {
    /// A line for the shell.
    pub fn shell(line: &str) -> Self {
        Self { argv: ["sh", "-c", line].map(str::to_owned).to_vec(), ..Self::default() }
    }
}

impl Swarm {
    /// The container of a service's newest running task. `service` is its full name.
    ///
    /// # Errors
    /// [`SwarmError::Missing`] when none runs.
    pub async fn container_of(&self, stack: &str, service: &str) -> Result<String, SwarmError> {
        let observation = self.observe(stack).await?;
        running_container(&observation, service).ok_or_else(|| SwarmError::Missing {
            kind: "running container of service",
            name: service.to_owned(),
            hint: "wait until the stack has converged, or look at the service's tasks",
        })
    }

    /// Runs a command in a running container, to its end.
    ///
    /// # Errors
    /// [`SwarmError::Timeout`] after `limit`; the command may go on in there then. [`SwarmError::Docker`] when it could not be
    /// started. That it fails is an exit code, not an error.
    pub async fn exec(
        &self,
        container: &str,
        command: &ContainerCommand,
        limit: Duration,
    ) -> Result<CommandOutput, SwarmError> {
        let doing = || format!("running `{}` in {container}", command.argv.join(" "));
        let whole = self.exec_to_the_end(container, command, doing());
        tokio::time::timeout(limit, whole).await.map_err(|_| SwarmError::Timeout { doing: doing(), limit })?
    }

    async fn exec_to_the_end(
        &self,
        container: &str,
        command: &ContainerCommand,
        doing: String,
    ) -> Result<CommandOutput, SwarmError> {
        let started = Instant::now();
        let variables = command.environment.iter().map(|(name, value)| format!("{name}={value}"));
        let config = ExecConfig {
            attach_stdin: Some(!command.input.is_empty()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.argv.clone()),
            user: command.user.clone(),
            working_dir: command.working_dir.clone(),
            env: Some(variables.collect()),
            ..ExecConfig::default()
        };
        let failed = || SwarmError::docker(doing.clone());
        let made = self.docker.create_exec(container, config).await.map_err(failed())?;
        let begun = self.docker.start_exec(&made.id, None::<StartExecOptions>).await.map_err(failed())?;
        let (mut stdout, mut stderr, mut truncated) = (Vec::new(), Vec::new(), false);
        if let StartExecResults::Attached { mut output, mut input } = begun {
            let feed = async {
                // A command that does not want all of its input is not an error.
                let _ = input.write_all(&command.input).await;
                let _ = input.shutdown().await;
            };
            let read = async {
                while let Some(part) = output.next().await {
                    let part = part.map_err(failed())?;
                    let kept =
                        if matches!(part, LogOutput::StdErr { .. }) { &mut stderr } else { &mut stdout };
                    let room = OUTPUT.saturating_sub(kept.len()).min(part.as_ref().len());
                    kept.extend_from_slice(&part.as_ref()[..room]);
                    truncated |= room < part.as_ref().len();
                }
                Ok::<(), SwarmError>(())
            };
            let ((), read) = futures::join!(feed, read);
            read?;
        }
        let ended = self.docker.inspect_exec(&made.id).await.map_err(failed())?;
        let exit_code = ended.exit_code.ok_or_else(|| SwarmError::Docker {
            doing: doing.clone(),
            status: None,
            message: "its output ended before it did".to_owned(),
            hint: " (the container was probably stopped meanwhile)",
        })?;
        Ok(CommandOutput { exit_code, stdout, stderr, truncated, took: started.elapsed() })
    }

    /// A path of a container as a tar archive, its last component being the name in there. Written to `into` as it comes; how
    /// many bytes that were.
    ///
    /// # Errors
    /// [`SwarmError::Docker`]; [`SwarmError::is_not_found`] when there is no such path. [`SwarmError::Write`] when `into` takes no
    /// more.
    pub async fn copy_out(
        &self,
        container: &str,
        path: &str,
        into: &mut (impl AsyncWrite + Unpin + Send),
    ) -> Result<u64, SwarmError> {
        let doing = format!("copying {path} out of {container}");
        let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
        let mut parts = self.docker.download_from_container(container, Some(options));
        let mut bytes = 0;
        while let Some(part) = parts.next().await {
            let part = part.map_err(SwarmError::docker(doing.clone()))?;
            let failed = |source| SwarmError::Write { doing: doing.clone(), source };
            into.write_all(&part).await.map_err(failed)?;
            bytes += part.len() as u64;
        }
        let failed = |source| SwarmError::Write { doing: doing.clone(), source };
        into.flush().await.map_err(failed)?;
        Ok(bytes)
    }

    /// Unpacks a tar archive into a folder of a container, as it is read. The folder has to be there.
    ///
    /// # Errors
    /// [`SwarmError::Docker`].
    pub async fn copy_in(
        &self,
        container: &str,
        folder: &str,
        archive: impl AsyncRead + Send + 'static,
    ) -> Result<(), SwarmError> {
        let doing = format!("copying into {folder} of {container}");
        let options = UploadToContainerOptionsBuilder::default().path(folder).build();
        let body = body_try_stream(ReaderStream::new(archive));
        let copied = self.docker.upload_to_container(container, Some(options), body).await;
        copied.map_err(SwarmError::docker(doing))
    }

    /// Opens a volume for reading and writing its files, whether or not somebody uses it. `image` is any image that is there:
    /// Docker wants one, though nothing of it is ever run.
    ///
    /// # Errors
    /// [`SwarmError::Missing`] when there is no such volume; [`SwarmError::Docker`].
    pub async fn open_volume(&self, volume: &str, image: &str) -> Result<VolumeFiles, SwarmError> {
        let doing = || format!("opening volume `{volume}`");
        // Mounting would make one that is not there.
        match self.docker.inspect_volume(volume).await.map_err(SwarmError::docker(doing())) {
            Err(error) if error.is_not_found() => {
                return Err(SwarmError::Missing {
                    kind: "volume",
                    name: volume.to_owned(),
                    hint: "a stack's volumes are made when their first task starts",
                });
            }
            other => drop(other?),
        }
        let mount = Mount {
            target: Some(VOLUME.to_owned()),
            source: Some(volume.to_owned()),
            typ: Some(MountType::VOLUME),
            ..Mount::default()
        };
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            cmd: Some(vec!["never-run".to_owned()]),
            network_disabled: Some(true),
            labels: Some(HashMap::from([("assay.volume".to_owned(), volume.to_owned())])),
            host_config: Some(HostConfig { mounts: Some(vec![mount]), ..HostConfig::default() }),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::default().build();
        let made = self.docker.create_container(Some(options), body).await;
        let container = made.map_err(SwarmError::docker(doing()))?.id;
        Ok(VolumeFiles { swarm: self.clone(), container })
    }
}

/// A volume's files, through a container that never runs. [`VolumeFiles::close`] removes that.
#[derive(Debug)]
#[must_use = "the container behind it stays until it is closed"]
pub struct VolumeFiles {
    swarm: Swarm,
    container: String,
}

impl VolumeFiles {
    /// A path in the volume as a tar archive; the empty path is all of it, under the name `volume`. See [`Swarm::copy_out`].
    ///
    /// # Errors
    /// As [`Swarm::copy_out`].
    pub async fn read(
        &self,
        path: &str,
        into: &mut (impl AsyncWrite + Unpin + Send),
    ) -> Result<u64, SwarmError> {
        self.swarm.copy_out(&self.container, &in_volume(path), into).await
    }

    /// Unpacks a tar archive into a folder of the volume; the empty path is its root.
    ///
    /// # Errors
    /// [`SwarmError::Docker`].
    pub async fn write(
        &self,
        folder: &str,
        archive: impl AsyncRead + Send + 'static,
    ) -> Result<(), SwarmError> {
        self.swarm.copy_in(&self.container, &in_volume(folder), archive).await
    }

    /// Removes the container; the volume stays.
    ///
    /// # Errors
    /// [`SwarmError::Docker`].
    pub async fn close(self) -> Result<(), SwarmError> {
        let options = RemoveContainerOptionsBuilder::default().force(true).build();
        let removed = self.swarm.docker.remove_container(&self.container, Some(options)).await;
        removed.map_err(SwarmError::docker("closing a volume"))
    }
}

fn in_volume(path: &str) -> String {
    let path = path.trim_matches('/');
    if path.is_empty() { VOLUME.to_owned() } else { format!("{VOLUME}/{path}") }
}

fn running_container(observation: &Observation, service: &str) -> Option<String> {
    let service = observation.services.iter().find(|observed| observed.name == service)?;
    let tasks = observation.tasks.iter().filter(|task| {
        task.service == service.id && task.state == TaskState::Running && task.desired == TaskState::Running
    });
    tasks.max_by_key(|task| (task.up_to_date, task.created))?.container.clone()
}
