//! Arguments of `session people …`, `session share …` and `session join`.

use clap::{Subcommand, ValueEnum};
use greenroom_domain::{LoginName, SessionId, SessionRole, ShareKind, ShareLinkId, TeamAccess};

#[derive(Debug, Subcommand)]
#[command(after_help = PEOPLE_HELP)]
pub(crate) enum People {
    /// List who takes part, with their roles, and what everyone of the installation may do
    List { session: SessionId },
    /// Give a person a role in the session, or another one
    Set { session: SessionId, login: LoginName, role: RoleName },
    /// End a person's part in the session
    Remove { session: SessionId, login: LoginName },
    /// Leave the session
    Leave { session: SessionId },
    /// Choose what everyone of the installation may do here without being a participant
    Open { session: SessionId, access: AccessName },
}

const PEOPLE_HELP: &str = "\
An owner of the session, or an admin, decides who takes part. Whoever prompts takes part from then on. The only owner can \
neither leave nor become less.

Examples:
  greenroom session people list ses_…
  greenroom session people set ses_… ben contributor
  greenroom session people open ses_… none";

#[derive(Debug, Subcommand)]
#[command(after_help = SHARE_HELP)]
pub(crate) enum Share {
    /// List the links to a session, newest first
    List { session: SessionId },
    /// Make a link; it is shown this once
    Create {
        session: SessionId,
        /// Let those who follow it prompt, too; without it they look
        #[arg(long)]
        take_part: bool,
        /// Until nobody can come by it any more: 30m, 12h, 7d; at most 90d
        #[arg(long, value_name = "TIME", default_value = "7d", value_parser = life)]
        expires: u64,
    },
    /// Revoke a link; who is here only by it is out at once
    Revoke { session: SessionId, link: ShareLinkId },
}

const SHARE_HELP: &str = "\
A link is for people of this installation, who sign in to follow it. Whoever takes part in a session can make one.

Examples:
  greenroom session share create ses_… --take-part --expires 12h
  greenroom session share revoke ses_… lnk_…
  greenroom session join 'http://127.0.0.1:7878/share#…'";

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum RoleName {
    /// Looks
    Viewer,
    /// Prompts, stops, runs commands, shares
    Contributor,
    /// Also decides who takes part, and deletes
    Owner,
}

impl From<RoleName> for SessionRole {
    fn from(role: RoleName) -> Self {
        match role {
            RoleName::Viewer => Self::Viewer,
            RoleName::Contributor => Self::Contributor,
            RoleName::Owner => Self::Owner,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum AccessName {
    /// Look and prompt
    Contribute,
    /// Look
    View,
    /// Nothing: the session is private to its participants and to admins
    None,
}

impl From<AccessName> for TeamAccess {
    fn from(access: AccessName) -> Self {
        match access {
            AccessName::Contribute => Self::Contribute,
            AccessName::View => Self::View,
            AccessName::None => Self::None,
        }
    }
}

pub(crate) fn kind(take_part: bool) -> ShareKind {
    if take_part { ShareKind::TakePart } else { ShareKind::View }
}

/// Seconds of `30m`, `12h`, `7d`. The server says what is too long.
fn life(text: &str) -> Result<u64, String> {
    let unit = |unit| match unit {
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(24 * 3600),
        _ => None,
    };
    let split = text.len().saturating_sub(1);
    let found = text.split_at_checked(split).and_then(|(number, name)| {
        number.parse::<u64>().ok()?.checked_mul(unit(name)?).filter(|seconds| *seconds > 0)
    });
    found.ok_or_else(|| "a number with m, h or d behind it, for example 12h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_a_number_with_a_unit() {
        assert_eq!((life("30m"), life("12h"), life("7d")), (Ok(1800), Ok(43_200), Ok(604_800)));
        for wrong in ["", "7", "d", "0d", "-1d", "7é", "99999999999999999999d", "18446744073709551615d"] {
            assert!(life(wrong).is_err(), "{wrong}");
        }
    }
}
