from __future__ import annotations

import json
from pathlib import Path
from typing import Any

AWS = Path(__file__).resolve().parents[2] / "deploy" / "aws"


def statements(name: str) -> list[dict[str, Any]]:
    policy = json.loads((AWS / name).read_text())
    assert policy["Version"] == "2012-10-17"
    return list(policy["Statement"])


def test_the_landing_may_be_used_under_its_prefix_and_nothing_else() -> None:
    listing, uploads, objects = statements("landing-policy.json")
    assert {listing["Effect"], uploads["Effect"], objects["Effect"]} == {"Allow"}
    assert uploads["Action"] == "s3:ListBucketMultipartUploads"
    assert uploads["Resource"] == "arn:aws:s3:::BUCKET"
    assert listing["Action"] == "s3:ListBucket"
    assert listing["Resource"] == "arn:aws:s3:::BUCKET"
    assert listing["Condition"] == {"StringLike": {"s3:prefix": "PREFIX/*"}}
    assert objects["Resource"] == "arn:aws:s3:::BUCKET/PREFIX/*"
    assert set(objects["Action"]) == {
        *("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"),
    }


def test_the_role_is_taken_with_the_external_id_only() -> None:
    (statement,) = statements("trust-policy.json")
    assert statement["Action"] == "sts:AssumeRole"
    assert statement["Condition"] == {"StringEquals": {"sts:ExternalId": "EXTERNAL_ID"}}


def test_copy_may_read_the_landing_and_nothing_else() -> None:
    listing, objects, backups = statements("redshift-copy-policy.json")
    assert (listing["Action"], objects["Action"]) == ("s3:ListBucket", "s3:GetObject")
    assert listing["Resource"] == "arn:aws:s3:::BUCKET"
    assert listing["Condition"] == {"StringLike": {"s3:prefix": "PREFIX/*"}}
    assert objects["Resource"] == "arn:aws:s3:::BUCKET/PREFIX/*"
    assert (backups["Effect"], backups["Action"]) == ("Deny", "s3:GetObject")
    assert backups["Resource"] == "arn:aws:s3:::BUCKET/PREFIX/_backups/*"


def test_redshift_takes_its_role_for_one_user_of_one_cluster() -> None:
    (statement,) = statements("redshift-trust-policy.json")
    assert statement["Principal"] == {"Service": "redshift.amazonaws.com"}
    assert statement["Action"] == "sts:AssumeRole"
    (user,) = statement["Condition"]["StringEquals"].values()
    assert user == "arn:aws:redshift:REGION:ACCOUNT:dbuser:CLUSTER/LOADER"
