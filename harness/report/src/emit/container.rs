//! Lines for containers: Compose, Kubernetes, and the operators of MySQL and MariaDB there.
//!
//! Sources: mariadb-operator, api/v1alpha1 (`MariaDB`, `spec.env`); Percona Operator for MySQL based on Percona XtraDB Cluster,
//! `spec.pxc.envVarsSecret` and, from 1.19 on, `spec.pxc.mysqlAllocator`; the one based on Percona Server, `spec.mysql.env`.

use fragbench_model::AllocatorKind;

use super::{Application, double_quoted, note, verified};

/// A file of its own: `compose.override.yaml` may be somebody's.
const COMPOSE: &str = "compose.fragbench.yaml";

pub(super) fn docker(change: &Application) -> Vec<String> {
    let service = change.service;
    let mut lines = vec![format!("# {}", change.what()), format!("# Save as {COMPOSE} beside compose.yaml")];
    lines.extend(change.replaces("docker compose config"));
    lines.extend(["services:".to_owned(), format!("  {service}:"), "    environment:".to_owned()]);
    // A dollar sign begins an interpolation.
    lines.extend(
        change
            .variables()
            .iter()
            .map(|(name, value)| format!("      {name}: {}", double_quoted(value).replace('$', "$$"))),
    );
    if let (Some(from), Some(to)) = (change.library(), change.installed()) {
        lines.extend([
            "    volumes:".to_owned(),
            "      - type: bind".to_owned(),
            format!("        source: {}", double_quoted(&from.to_string_lossy()).replace('$', "$$")),
            format!("        target: {}", double_quoted(&to.to_string_lossy()).replace('$', "$$")),
            "        read_only: true".to_owned(),
            "# The image needs a glibc at least as new as the one the library was built against; images on musl cannot use it."
                .to_owned(),
        ]);
    }
    // Named files leave out the override that is read otherwise.
    let own = "$(test -f compose.override.yaml && echo -f compose.override.yaml)";
    let apply = format!("docker compose -f compose.yaml {own} -f {COMPOSE} up -d {service}");
    let pid = format!("pid=$(docker inspect --format '{{{{.State.Pid}}}}' $(docker compose ps -q {service}))");
    verified(&mut lines, &pid, vec![apply], change.arrived(true));
    lines.extend(note("Undo:", [format!("rm {COMPOSE} && docker compose up -d {service}")]));
    lines
}

/// `env:` of a container, each variable below it.
fn env_list(change: &Application, indent: usize) -> Vec<String> {
    let space = " ".repeat(indent);
    let mut lines = vec![format!("{space}env:")];
    for (name, value) in change.variables() {
        // $(NAME) is replaced by another variable, $$ is one dollar sign.
        let value = double_quoted(&value).replace('$', "$$");
        lines.extend([format!("{space}  - name: {name}"), format!("{space}    value: {value}")]);
    }
    lines
}

/// How it is seen in a pod, where this program is not.
fn in_pod(lines: &mut Vec<String>, change: &Application, pod: &str, container: &str, apply: Vec<String>) {
    let exec = format!("kubectl exec {pod} -c {container} -i -- sh -e");
    let before = format!("before=$({exec} -c 'grep RssAnon /proc/1/status' | tr -dc 0-9); echo $before");
    lines.extend(note("Before, under the usual load, in the shell of what follows:", [before]));
    lines.extend(note("Apply:", apply));
    let script = ["pid=1".to_owned()].into_iter().chain(change.arrived(false)).chain(["END".to_owned()]);
    let arrived = std::iter::once(format!("{exec} <<'END'")).chain(script);
    lines.extend(note("Verify that it arrived (each line succeeds):", arrived));
    let now = format!("now=$({exec} -c 'grep RssAnon /proc/1/status' | tr -dc 0-9)");
    let compare = "echo $before KiB before, $now KiB now; [ $now -lt $before ]".to_owned();
    lines.extend(note("Verify that memory fell, after as long under the same load:", [now, compare]));
}

fn image(change: &Application) -> Option<String> {
    let path = change.installed()?;
    Some(format!("# The image must hold the library: COPY it to {} in its Dockerfile.", path.display()))
}

pub(super) fn kubernetes(change: &Application) -> Vec<String> {
    let service = change.service;
    let mut lines = vec![
        format!("# {}", change.what()),
        "# Save as allocator.yaml; StatefulSet and container are both called as the service.".to_owned(),
    ];
    lines.extend(change.replaces(&format!("kubectl set env statefulset/{service} -c {service} --list")));
    lines.extend(
        ["apiVersion: apps/v1", "kind: StatefulSet", "metadata:"]
            .map(str::to_owned)
            .into_iter()
            .chain([format!("  name: {service}")]),
    );
    lines.extend(["spec:", "  template:", "    spec:", "      containers:"].map(str::to_owned));
    lines.push(format!("        - name: {service}"));
    lines.extend(env_list(change, 10));
    lines.extend(image(change));
    let apply = format!("kubectl patch statefulset {service} --patch-file allocator.yaml");
    in_pod(&mut lines, change, &format!("{service}-0"), service, vec![apply]);
    // Taking the last revision back would take back whatever came last.
    let names: Vec<String> = change.variables().into_keys().map(|name| format!("{name}-")).collect();
    lines.extend(note("Undo:", [format!("kubectl set env statefulset/{service} -c {service} {}", names.join(" "))]));
    lines
}

/// Lines that go into a resource that the user keeps: a patch would replace the whole list there.
fn resource(change: &Application, kind: [&str; 2], place: Vec<String>, pod: &str, container: &str) -> Vec<String> {
    let service = change.service;
    let [version, kind] = kind;
    let mut lines = vec![
        format!("# {}", change.what()),
        format!(
            "# Add what stands below `spec:` to your {kind} resource; a list that is there already keeps its entries."
        ),
    ];
    lines.extend(change.replaces(&format!("kubectl get {} {service} -o yaml", kind.to_lowercase())));
    lines.extend([format!("apiVersion: {version}"), format!("kind: {kind}"), "metadata:".to_owned()]);
    lines.extend([format!("  name: {service}"), "spec:".to_owned()]);
    lines.extend(place);
    lines.extend(image(change));
    let edit = format!("kubectl edit {} {service}", kind.to_lowercase());
    in_pod(&mut lines, change, pod, container, vec![edit.clone()]);
    lines.extend(note("Undo:", [format!("{edit}, and remove these lines")]));
    lines
}

pub(super) fn mariadb_operator(change: &Application) -> Vec<String> {
    let pod = format!("{}-0", change.service);
    resource(change, ["k8s.mariadb.com/v1alpha1", "MariaDB"], env_list(change, 2), &pod, "mariadb")
}

pub(super) fn percona_server(change: &Application) -> Vec<String> {
    let place = std::iter::once("  mysql:".to_owned()).chain(env_list(change, 4)).collect();
    let pod = format!("{}-mysql-0", change.service);
    resource(change, ["ps.percona.com/v1", "PerconaServerMySQL"], place, &pod, "mysql")
}

pub(super) fn percona_xtradb(change: &Application) -> Vec<String> {
    let service = change.service;
    let secret = format!("{service}-fragbench-allocator");
    let mut place = vec!["  pxc:".to_owned()];
    let allocator = match change.change.kind {
        AllocatorKind::Jemalloc => Some("jemalloc"),
        AllocatorKind::Tcmalloc => Some("tcmalloc"),
        _ => None,
    };
    if let Some(name) = allocator {
        place.push(format!("    # From 1.19 on, in place of LD_PRELOAD, the image's own: mysqlAllocator: {name}"));
    }
    place.push(format!("    envVarsSecret: {secret}"));
    let pod = format!("{service}-pxc-0");
    let mut lines = vec![
        "# The operator takes variables from one Secret: if `spec.pxc.envVarsSecret` names one, add these to it instead."
            .to_owned(),
        "apiVersion: v1".to_owned(),
        "kind: Secret".to_owned(),
        "metadata:".to_owned(),
        format!("  name: {secret}"),
        "stringData:".to_owned(),
    ];
    lines.extend(change.variables().iter().map(|(name, value)| format!("  {name}: {}", double_quoted(value))));
    lines.push("---".to_owned());
    lines.extend(resource(change, ["pxc.percona.com/v1", "PerconaXtraDBCluster"], place, &pod, "pxc"));
    lines.extend(note("and then:", [format!("kubectl delete secret {secret}")]));
    lines
}
