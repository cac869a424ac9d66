"""The image as anybody runs it: unprivileged, and with a root file system that nobody writes to."""

from __future__ import annotations

import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.image.podman import FOLDER, IMAGE, ROOT, Podman, build

pytestmark = pytest.mark.image

WRITTEN_TO = ("/opt/airflow", "/var/lib/millrace", "/tmp")  # noqa: S108 in the container
READ_ONLY = ("--rm", "--read-only", "--network", "none", "--cap-drop", "all")
VOLUMES = ("--tmpfs=/tmp", *(f"--volume={folder}" for folder in WRITTEN_TO[:2]))
LARGEST_BYTES = 2_500_000_000


def in_image(podman: Podman, *command: str, options: tuple[str, ...] = ()) -> str:
    """What a command prints in the image, with the rights that docker-compose.yaml gives it."""
    return podman("run", *READ_ONLY, *VOLUMES, *options, IMAGE, *command)


@pytest.fixture(scope="module")
def config(podman: Podman) -> dict[str, Any]:
    """What the image says of itself."""
    [image] = json.loads(podman("image", "inspect", IMAGE))
    return dict(image)


@pytest.fixture(scope="module")
def files(podman: Podman) -> list[str]:
    """The files that the image brings beside Debian's and those of the locked packages."""
    return in_image(podman, "find", "/opt/millrace", "/opt/airflow", "/tmp", "-type", "f").split()  # noqa: S108


def test_its_programs_start_for_a_user_without_any_rights(podman: Podman) -> None:
    said = in_image(
        podman, "bash", "-c", "id -u; millrace --version; airflow version; dbt --version"
    )
    assert said.startswith("10001\n")
    for version in ("millrace, version 0.1.0", "\n3.3.", "core:"):
        assert version in said.lower()


def test_its_user_may_write_to_nothing_but_what_is_meant_for_it(podman: Podman) -> None:
    find = "find / -xdev -writable -not -type l -prune -print 2>/dev/null || true"
    found = podman("run", "--rm", "--network", "none", IMAGE, "bash", "-c", find).split()
    assert {path for path in found if not path.startswith(("/proc", "/sys", "/dev"))} == {
        *WRITTEN_TO,
        # Debian's own, for anybody.
        *("/run/lock", "/var/tmp"),  # noqa: S108
        # For the build of a project's image.
        "/opt/millrace/dbt_project/target",
    }


def test_the_manifest_is_that_of_the_build_unless_the_environment_differs(podman: Podman) -> None:
    elsewhere = ("--env", "DBT_TARGET_PATH=/opt/airflow/dbt_target")
    parse = ("millrace", "--verbose", "parse")
    again = "bash", "-c", f"{' '.join(parse)} 2>&1"
    assert "parsing the dbt project" not in in_image(podman, *again, options=elsewhere)
    other = (*elsewhere, "--env", "NPS_SUMMARY_SPREADSHEET=another")
    assert "parsing the dbt project" in in_image(podman, *again, options=other)


def test_the_dags_are_made_from_it(podman: Podman) -> None:
    listing = (
        "airflow db migrate >/dev/null 2>&1; airflow dags reserialize >/dev/null 2>&1; "
        "airflow dags list --output json"
    )
    said = in_image(podman, "bash", "-c", listing)
    dags = json.loads(said[said.index("[{") :])
    assert {dag["dag_id"] for dag in dags} == {
        *("audit", "maintenance", "transform"),
        *("ingest__mysql__nps", "ingest__mysql__users", "ingest__google_sheets__nps_targets"),
    }


def test_neither_secrets_nor_what_only_developers_need_are_in_it(
    podman: Podman, files: list[str], config: dict[str, Any]
) -> None:
    tops = {path.removeprefix("/opt/millrace/").split("/")[0] for path in files}
    assert tops == {"LICENSE", "dags", "dbt_project", "deploy", "profiles.yml"}
    assert not [path for path in files if re.search(r"/\.(env|git)|\.(pem|key)$|sandbox", path)]
    secret = re.compile("PASSWORD|SECRET|SALT|TOKEN|FERNET|_CONN_")
    assert not [variable for variable in config["Config"]["Env"] if secret.search(variable)]
    programs = in_image(podman, "bash", "-c", "command -v gcc cc uv pip git curl || true")
    assert programs == ""
    packages = in_image(podman, "ls", "/opt/venv/lib/python3.11/site-packages").split()
    assert "millrace" in packages
    developers = {
        "pytest",
        "moto",
        "millrace_sandbox",
        "sheets_standin",
        "redshift_standin",
        "mypy",
    }
    assert not developers & set(packages)


def test_the_bill_of_materials_names_what_is_in_it(podman: Podman) -> None:
    bill = json.loads((FOLDER / "sbom.json").read_text())
    listed = {component["name"].lower().replace("_", "-") for component in bill["components"]}
    distributions = (
        "from importlib.metadata import distributions as d; "
        "print(*(x.metadata['Name'].lower().replace('_', '-').replace('.', '-') for x in d()))"
    )
    installed = set(in_image(podman, "python", "-c", distributions).split())
    debian = set(in_image(podman, "dpkg-query", "--show", "--showformat=${Package} ").split())
    assert len(installed) > 200
    assert installed <= {name.replace(".", "-") for name in listed}
    assert debian <= listed
    # Nobody's wheels for other systems, or the developers' tools.
    assert "pytest" not in listed


def test_it_says_what_it_is_and_is_not_too_large(config: dict[str, Any]) -> None:
    labels = config["Labels"]
    assert labels["org.opencontainers.image.title"] == "nps"
    assert re.fullmatch("[0-9a-f]{40}", labels["org.opencontainers.image.revision"])
    assert labels["org.opencontainers.image.base.name"].endswith("debian:bookworm-slim")
    assert config["Config"]["User"] == "10001:10001"
    logging.getLogger(__name__).info("%s has %.0f MB", IMAGE, config["Size"] / 1e6)
    assert config["Size"] < LARGEST_BYTES


def test_the_image_of_a_project_of_ones_own_is_as_the_docs_say(
    podman: Podman, tmp_path: Path
) -> None:
    docs = (ROOT / "docs" / "operations.md").read_text()
    section = docs[docs.index("## The image") :]
    [dockerfile] = re.findall(r"```dockerfile\n(.*?)```", section.split("\n## ")[0], re.DOTALL)
    (tmp_path / "Dockerfile").write_text(dockerfile)
    shutil.copytree(ROOT / "dags", tmp_path / "dags")
    shutil.copy(ROOT / "profiles.yml", tmp_path)
    models = tmp_path / "dbt_project" / "models"
    models.mkdir(parents=True)
    (tmp_path / "dbt_project" / "dbt_project.yml").write_text(
        "{name: shop, profile: millrace, flags: {send_anonymous_usage_stats: false}}"
    )
    (models / "_shop.yml").write_text(
        "sources:\n  - name: mysql\n    schema: raw\n    config: {meta: {ingest: "
        "{kind: mysql, connection: mysql_prod}}}\n    tables:\n      - name: orders\n"
        "        config: {meta: {ingest: {table: shop.orders, primary_key: [id]}}}\n"
    )
    build(podman, tmp_path, "localhost/shop")
    try:
        options = ("--env", "TARGET=redshift", "--env", "REDSHIFT_HOST=warehouse")
        said = podman(
            "run", *READ_ONLY, *VOLUMES, *options, "localhost/shop", "millrace", "-v", "parse"
        )
        assert "is fresh" in said
    finally:
        podman("rmi", "localhost/shop")
