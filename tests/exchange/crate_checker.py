"""Run by the Python of another environment: what two programs say of an RO-Crate, as JSON.

    python crate_checker.py CRATE

The validator (roc-validator) would fetch the specification's context; it is given the one that
ro-crate-py has brought along, so that nothing leaves the computer.
"""

import email.message
import io
import json
import sys
import urllib.request
import urllib.response
from importlib.resources import files

from rocrate.rocrate import ROCrate
from rocrate_validator import services
from rocrate_validator.models import Severity, ValidationSettings

CONTEXT = (files("rocrate") / "data" / "ro-crate.jsonld").read_bytes()


class Answer(urllib.response.addinfourl):
    """An answer with the word that urllib looks at."""

    msg = "OK"


class Offline(urllib.request.BaseHandler):
    """Every address gives the context."""

    handler_order = 100  # before the one that connects

    def https_open(self, req: urllib.request.Request) -> Answer:
        headers = email.message.Message()
        headers["Content-Type"] = "application/ld+json"
        return Answer(io.BytesIO(CONTEXT), headers, req.full_url, 200)


def main(crate: str) -> None:
    urllib.request.install_opener(urllib.request.build_opener(Offline))
    settings = ValidationSettings(
        rocrate_uri=crate,
        profile_identifier="ro-crate-1.1",
        requirement_severity=Severity.RECOMMENDED,
        skip_availability_check=True,
        skip_checks=["ro-crate-1.1_3.1", "ro-crate-1.1_3.2"],  # whether the context can be fetched
    )
    result = services.validate(settings)
    read = ROCrate(crate)
    json.dump(
        {
            "issues": [
                f"{issue.check.identifier}: {issue.message}" for issue in result.get_issues()
            ],
            "name": read.root_dataset["name"],
            "files": {entity.id: entity.get("sha256") for entity in read.data_entities},
            "instruments": [
                entity["name"]
                for entity in read.get_entities()
                if entity.type == "IndividualProduct"
            ],
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main(sys.argv[1])
