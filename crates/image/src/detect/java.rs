//! Java: Maven (`pom.xml`) or Gradle (`build.gradle`, `settings.gradle`, also in Kotlin), by the project's own wrapper
//! where it has one. Maven wins where both are there: its build is declared, not programmed.

use super::toolchain::{GRADLE, JAVA, MAVEN};
use super::{Part, Place, optional_check, step};

pub(super) fn is_marker(name: &str) -> bool {
    name == "pom.xml" || is_gradle(name)
}

fn is_gradle(name: &str) -> bool {
    matches!(name, "build.gradle" | "build.gradle.kts" | "settings.gradle" | "settings.gradle.kts")
}

pub(super) fn part(place: &Place<'_>) -> Part {
    if place.has("pom.xml") { maven(place) } else { gradle(place) }
}

fn maven(place: &Place<'_>) -> Part {
    let has_wrapper = place.has("mvnw") && place.has(".mvn/wrapper/maven-wrapper.properties");
    let program = if has_wrapper { "sh ./mvnw" } else { "mvn" };
    let run = |goals: &str| place.script(&format!("{program} -B -ntp {goals}\n"));
    let inputs = ["pom.xml", "**/pom.xml", ".mvn/**", "mvnw"];
    // Modules that depend on one another are not in a repository yet; what is missing then, the build fetches.
    let resolve = format!(
        "{program} -B -ntp dependency:go-offline \\\n  \
         || echo 'greenroom: not everything could be fetched in advance; the build fetches the rest'\n"
    );
    Part {
        steps: vec![
            if has_wrapper { JAVA } else { MAVEN }.step(place),
            step(place.name("java dependencies"), place.script(&resolve), place.inputs(&inputs)),
        ],
        checks: vec![
            optional_check(place.name("java build"), run("-DskipTests package"), 60),
            optional_check(place.name("java tests"), run("test"), 20),
        ],
        ..Part::default()
    }
}

fn gradle(place: &Place<'_>) -> Part {
    let has_wrapper = place.has("gradlew") && place.has("gradle/wrapper/gradle-wrapper.properties");
    let program = if has_wrapper { "sh ./gradlew" } else { "gradle" };
    let run = |task: &str| place.script(&format!("{program} --no-daemon --console=plain {task}\n"));
    let inputs = [
        "**/*.gradle",
        "**/*.gradle.kts",
        "*.gradle",
        "*.gradle.kts",
        "gradle.properties",
        "gradle/*.toml",
        "gradle/wrapper/**",
        "gradlew",
        "**/gradle.lockfile",
        "buildSrc/**",
    ];
    Part {
        steps: vec![
            if has_wrapper { JAVA } else { GRADLE }.step(place),
            step(place.name("java dependencies"), run("dependencies"), place.inputs(&inputs)),
        ],
        checks: vec![
            optional_check(place.name("java build"), run("assemble"), 60),
            optional_check(place.name("java tests"), run("test"), 20),
        ],
        ..Part::default()
    }
}
