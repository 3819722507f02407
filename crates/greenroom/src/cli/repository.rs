//! `repository`, its network and secrets, and `image`.

use clap::{Args, Subcommand};
use greenroom_domain::{ExchangeName, ImageId, RepositoryName};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum Repository {
    /// Add a repository: its branches and tags are mirrored, and its environment image is built
    #[command(after_help = REPOSITORY_HELP)]
    Add {
        name: RepositoryName,
        /// Path on the server, or URL
        source: String,
        /// Approvals that a change needs before it may be merged [default: the installation's]
        #[arg(long, value_name = "N")]
        required_approvals: Option<u32>,
        /// Watch the image's build to its end
        #[arg(long)]
        wait: bool,
    },
    /// List repositories with their images
    List,
    /// Remove a repository with its images
    Remove { name: RepositoryName },
    /// Make the secret with which a forge elsewhere says that something was pushed; it is shown once
    #[command(after_help = HOOK_HELP)]
    Hook {
        name: RepositoryName,
        /// Let nobody say so any more
        #[arg(long)]
        remove: bool,
    },
    /// What its sandboxes may reach
    #[command(subcommand)]
    Egress(Egress),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Egress {
    /// Show what a repository's sandboxes may reach, and why
    Show { repository: RepositoryName },
    /// Allow a host beside the defaults and the recipe
    Allow {
        repository: RepositoryName,
        /// HOST, HOST:PORT, *.DOMAIN or an address
        host: String,
        /// Also when it is on a private network
        #[arg(long)]
        private: bool,
    },
    /// Take back what was allowed
    Forbid { repository: RepositoryName, host: String },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Secret {
    /// Declare a secret, or replace it; its value is stored encrypted and never shown again
    #[command(after_help = SECRET_HELP)]
    Add(SecretAdd),
    /// List a repository's secrets, without their values
    List { repository: RepositoryName },
    /// Remove a secret
    Remove { repository: RepositoryName, name: String },
}

const SECRET_HELP: &str = "\
The value is read from standard input, or asked on the terminal. Sandboxes hold only a placeholder, in an environment
variable of the secret's name; requests to the hosts, and to no others, are given the value.

Examples:
  greenroom secret add sample STRIPE_KEY --host api.stripe.com < key.txt
  greenroom secret add sample API_KEY --host api.example.org --header X-Api-Key";

#[derive(Debug, Args)]
pub(crate) struct SecretAdd {
    pub(crate) repository: RepositoryName,
    /// Name of the environment variable: capital letters, digits and _
    pub(crate) name: String,
    /// Host that gets it over TLS: HOST, HOST:PORT or https://HOST/PATH; http://HOST sends it in plain text
    #[arg(long = "host", value_name = "HOST", required = true)]
    pub(crate) hosts: Vec<String>,
    /// File that holds the value; - is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) value_file: Option<PathBuf>,
    /// As the password of this user [default: as bearer token]
    #[arg(long, value_name = "USER", conflicts_with_all = ["header", "placeholder"])]
    pub(crate) basic: Option<String>,
    /// As this header
    #[arg(long, value_name = "NAME", conflicts_with = "placeholder")]
    pub(crate) header: Option<String>,
    /// Wherever a header holds the placeholder
    #[arg(long)]
    pub(crate) placeholder: bool,
}

const HOOK_HELP: &str = "\
At a forge elsewhere (GitHub: Settings, Webhooks) give the address and the secret, content type application/json, and the
push event. Its host must reach this server.";

const REPOSITORY_HELP: &str = "\
Examples:
  greenroom repository add sample ./sample --wait
  greenroom repository add tools https://git.example.org/tools.git --required-approvals 2";

#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// Build a repository's environment image anew
    Build {
        repository: RepositoryName,
        /// Watch the build to its end
        #[arg(long)]
        follow: bool,
    },
    /// List a repository's images
    List { repository: RepositoryName },
    /// Show what a build did: its steps, which of them ran, how long each took, and why it failed
    Show { image: ImageId },
    /// Show the log of a build, live while it runs
    Log { image: ImageId },
    /// Write an image into a directory of the server's DATA/exchange, for another machine
    Export {
        repository: RepositoryName,
        /// Another than the newest good one
        #[arg(long)]
        image: Option<ImageId>,
        /// The directory's name, made where there is none
        #[arg(long, value_name = "DIRECTORY")]
        to: ExchangeName,
    },
    /// Take an image that another machine exported from a directory of the server's DATA/exchange, and watch it to its end
    Import {
        repository: RepositoryName,
        /// The directory's name
        #[arg(long, value_name = "DIRECTORY")]
        from: ExchangeName,
    },
}
