"""What is asked of /v1/detect, and what it answers."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyface.building import create_detector

pytest.importorskip("fastapi", reason="needs FastAPI: pip install polyface-serve")
pytest.importorskip("uvicorn", reason="needs uvicorn: pip install polyface-serve")
pytest.importorskip("polyface_example", reason="its toy detector finds red squares")

FACE = {"box": [16.0, 8.0, 24.0, 16.0], "score": 1.0}
"""The face of ``square()``."""

FILE = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\nbytes\r\n--x--\r\n'
"""A form with a file."""


def boxes(answer):
    """The boxes of each image of an answer."""
    assert answer.status_code == 200, answer.text
    return [[face["box"] for face in line["faces"]] for line in answer.json()["results"]]


def error(answer, status):
    """The error of an answer that must have this status."""
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/json"), answer.text
    return answer.json()["error"]


def as_json(*images):
    return json.dumps({"images": list(images)})


def encoded(data):
    return base64.b64encode(data).decode()


def test_answers_a_file_with_its_line_of_results(service, square):
    answer = service.post("/v1/detect", square()).json()
    (line,) = answer["results"]
    (face,) = line.pop("faces")
    assert face["box"] == FACE["box"]
    assert face["score"] == pytest.approx(1, abs=0.01)
    assert line == {"image": "0", "width": 64, "height": 48, "truncated": False, "error": None}
    assert answer["model"] == "toy"


def test_takes_files_of_a_form_and_calls_them_by_their_names(service, square):
    files = [("image", ("one.png", square())), ("other", ("two.jpg", square("BMP", at=[(32, 24), (0, 0)])))]
    answer = service.post("/v1/detect", files=files)
    assert [line["image"] for line in answer.json()["results"]] == ["one.png", "two.jpg"]
    first, second = boxes(answer)
    assert first == [FACE["box"]]
    assert sorted(second) == [[0, 0, 8, 8], [32, 24, 40, 32]]


def test_takes_json_with_base64(service, square):
    body = as_json({"data": encoded(square())}, {"data": encoded(square(at=())), "name": "empty"})
    answer = service.post("/v1/detect", body, "application/json")
    assert [line["image"] for line in answer.json()["results"]] == ["0", "empty"]
    assert boxes(answer) == [[FACE["box"]], []]


def test_one_bad_image_among_several_fails_alone(service, square):
    files = [("image", ("a.png", square())), ("image", ("b.txt", b"text")), ("image", ("c.png", square()))]
    answer = service.post("/v1/detect", files=files)
    assert boxes(answer) == [[FACE["box"]], [], [FACE["box"]]]
    errors = [line["error"] for line in answer.json()["results"]]
    assert errors[0] is errors[2] is None
    assert errors[1]["status"] == 415
    assert errors[1]["what"] == "The file of 4 bytes is not an image in a format that is read."


def test_a_text_is_no_image(service):
    told = error(service.post("/v1/detect", b"text", "image/jpeg"), 415)
    assert told["why"] == ["its 4 bytes do not begin as an image does"]


def test_a_damaged_image_says_why(service, square):
    told = error(service.post("/v1/detect", square("JPEG")[:-200], "image/jpeg"), 422)
    assert "cut short" in told["why"][0]
    assert told["fix"]["settings"] == {"damaged": "read"}


def test_pixels_are_counted_before_they_are_decoded(service, square):
    """A black image of 120 million pixels would take 360 MB."""
    bomb = square(at=(), size=(12_000, 10_000))
    told = error(service.post("/v1/detect", bomb), 413)
    assert told["what"] == "The image has too many pixels: 12000x10000."
    assert told["why"] == ["this server takes 1,000,000"]
    assert told["fix"]["alternatives"][0]["settings"] == {"max_pixels": 120_000_000}


def test_bytes_are_counted_while_they_come(running, toy, square):
    def chunks():
        yield from (bytes(4000) for _ in range(100))

    with running({"toy": toy()}, max_bytes=10_000) as service:
        told = error(service.post("/v1/detect", bytes(30_000_000)), 413)
        assert told["what"] == "The request is too long: 30,000,000 bytes."
        assert told["why"] == ["this server takes 10,000"]
        told = error(service.post("/v1/detect", chunks()), 413)
        assert told["what"] == "The request is too long: more than 10,000 bytes."
        assert boxes(service.post("/v1/detect", square())) == [[FACE["box"]]]


def test_all_requests_together_take_a_bounded_memory(running, toy, square):
    """Ten requests that lack their last byte; the next is over what all may hold."""
    with running({"toy": toy()}, max_bytes=10_000) as service:
        head = b"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 10000\r\n\r\n"
        begun = [service.connect() for _ in range(10)]
        for connection in begun:
            connection.sendall(head + bytes(9_999))
        while (answer := service.post("/v1/detect", square())).status_code == 200:
            pass  # until all of them have come
        told = error(answer, 503)
        assert told["what"] == "The server has no memory for another request now."
        for connection in begun:
            connection.close()


def test_images_of_a_request_are_counted(running, toy, square):
    with running({"toy": toy()}, max_images=2) as service:
        body = as_json(*[{"data": encoded(square())}] * 3)
        told = error(service.post("/v1/detect", body, "application/json"), 413)
        assert told["what"] == "The request has 3 images; at most 2 are taken."


def test_a_form_may_have_as_many_files_as_a_request_images(running, toy):
    """Starlette takes a thousand unless it is told otherwise."""
    with running({"toy": toy()}, max_images=1001, queue=1001) as service:
        answer = service.post("/v1/detect", files=[("image", ("a.txt", b"text"))] * 1001)
        assert len(boxes(answer)) == 1001


def test_values_of_json_are_counted_before_they_are_made(service):
    """A million objects of 3 bytes would take 72 MB."""
    body = b'{"images": [' + b"{}," * 1_000_000 + b"{}]}"
    told = error(service.post("/v1/detect", body, "application/json"), 413)
    assert told["what"] == "The JSON has too many values: 1,000,000 commas."
    assert told["why"] == ["at most 16 images are taken, with 1000 each"]


def test_the_log_has_what_is_the_servers_fault(service, square, monkeypatch, caplog):
    def fail(*_):
        raise ValueError("of this test")

    monkeypatch.setattr("polyface_serve.app.make_line", fail)
    told = error(service.post("/v1/detect", square()), 500)
    assert (told["what"], told["fix"]["words"]) == ("The server failed.", "its log says more")
    (record,) = caplog.records
    assert record.exc_info[1].args == ("of this test",)


@pytest.mark.parametrize(
    ("body", "kind", "status", "said"),
    [
        (b"", "image/png", 400, "The request has no image."),
        (b"a=b", "application/x-www-form-urlencoded", 415, "The body is of no kind that is taken."),
        (b"--x--\r\n", "multipart/form-data; boundary=x", 400, "The request has no image."),
        (b"--x", "multipart/form-data", 400, "The form cannot be read."),
        (b"nonsense", "multipart/form-data; boundary=x", 400, "The form cannot be read."),
        (FILE, "multipart/form-data; boundary=x; charset=undefined", 400, "The form cannot be read."),
        (b"{", "application/json", 400, "The JSON holds no images."),
        (b"[]", "application/json", 400, "The JSON holds no images."),
        (b"[" * 100_000, "application/json", 400, "The JSON holds no images."),
        (b'{"images": [{"data": "%"}]}', "application/json", 400, "The JSON holds no images."),
        ('{"images": [{"data": "é"}]}'.encode(), "application/json", 400, "The JSON holds no images."),
        (b'{"images": [{"data": "", "name": 7}]}', "application/json", 400, "The JSON holds no images."),
        (b'{"images": [{"data": "", "name": "\\ud800"}]}', "application/json", 400, "The JSON holds no images."),
        (b'{"images": []}', "application/json", 400, "The request has no image."),
    ],
)
def test_a_body_that_is_none_is_refused_with_a_way_to_send_it(service, body, kind, status, said):
    told = error(service.post("/v1/detect", body, kind), status)
    assert told["what"] == said
    assert told["fix"]["words"]


def test_a_large_file_of_a_form_is_not_written_to_disk(service, square, tmp_path, monkeypatch):
    """Starlette before 0.46 called its bound otherwise, and wrote files of over a megabyte."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    image = square("BMP", size=(640, 640))
    assert len(image) > 2**20
    assert boxes(service.post("/v1/detect", files={"image": image})) == [[FACE["box"]]]


def test_no_address_is_fetched(service):
    body = as_json({"url": f"{service.url('/healthz')}"})
    assert "URLs are not fetched" in error(service.post("/v1/detect", body, "application/json"), 400)["why"][0]


def test_a_field_of_a_form_is_no_setting(service, square):
    told = error(service.post("/v1/detect", files={"image": square(), "score_threshold": (None, "1")}), 400)
    assert told["what"] == "The form's field 'score_threshold' is no file."


def test_settings_stand_in_the_address_and_no_others_are_taken(service, square):
    told = error(service.post("/v1/detect?max_pixel=1", square()), 400)
    assert told["what"] == "/v1/detect has no query setting 'max_pixel'."
    told = error(service.post("/v1/detect?score_treshold=1", square()), 400)
    assert told["what"] == "/v1/detect has no query setting 'score_treshold'; did you mean 'score_threshold'?"
    told = error(service.post("/v1/detect?max_faces=1&max_faces=2", square()), 400)
    assert told["what"] == "The query setting max_faces is given twice."
    told = error(service.post("/v1/detect?max_faces=none", square()), 400)
    assert told["what"] == "The query setting max_faces must be of type int, not 'none'."
    told = error(service.post("/v1/detect?score_threshold=nan", square()), 400)
    assert told["what"] == "The query setting score_threshold must be at least 0, not nan."
    told = error(service.post("/v1/detect?timing=maybe", square()), 400)
    assert told["fix"]["settings"] == {"timing": False}


def test_settings_choose_among_the_faces(service, square):
    """A square of which 7 columns are red scores less than a whole one."""
    image = square(at=[(16, 8), (32, 8), (40, 8)])
    assert len(boxes(service.post("/v1/detect", image))[0]) == 3
    assert len(boxes(service.post("/v1/detect?max_faces=2", image))[0]) == 2
    assert boxes(service.post("/v1/detect?min_size=8.1", image)) == [[]]
    assert boxes(service.post("/v1/detect?score_threshold=1", image)) == [[]]


def test_a_threshold_below_the_servers_says_which_setting_would_lower_it(service, square):
    told = error(service.post("/v1/detect?score_threshold=0.2", square()), 400)
    assert told["what"] == "The query setting score_threshold must be at least 0.6."
    assert told["fix"]["settings"] == {"score_threshold": 0.6}
    assert told["fix"]["alternatives"][0]["settings"] == {"score_threshold": 0.2}


def test_seconds_are_said_where_they_are_asked_for(service, square):
    (line,) = service.post("/v1/detect?timing=true", square()).json()["results"]
    assert list(line["timing"]) == ["read", "prepare", "network", "trim", "decode", "nms"]


def test_models_are_chosen_by_name(running, toy, square):
    red, wide = toy(), toy(score_threshold=0.9)
    with running({"red": red, "strict": wide}) as service:
        assert service.post("/v1/detect", square()).json()["model"] == "red"
        assert service.post("/v1/detect?model=strict", square()).json()["model"] == "strict"
        listed = service.get("/v1/models").json()
        assert [(one["name"], one["score_threshold"]) for one in listed["models"]] == [("red", 0.6), ("strict", 0.9)]
        told = error(service.post("/v1/detect?model=stric", square()), 404)
        assert told["what"] == "There is no model 'stric' here; did you mean 'strict'?"
        assert told["why"] == ["the models: red, strict"]


def test_photographs_get_what_the_plain_call_gives(running, require, pytestconfig):
    require("onnxruntime", "polyface_onnxruntime", "polyface_retinaface")
    paths = sorted((pytestconfig.rootpath / "examples").glob("*.jpg"))
    detector = create_detector("retinaface-mobilenet025", backend="onnxruntime")
    wanted = [detector.detect(path) for path in paths]
    served = create_detector("retinaface-mobilenet025", backend="onnxruntime", timing=True)
    with running({"retinaface": served}) as service:
        answer = service.post("/v1/detect", files=[("image", path.read_bytes()) for path in paths]).json()
    assert [len(line["faces"]) for line in answer["results"]] == [len(faces) for faces in wanted] == [1, 17, 1, 13]
    for line, faces in zip(answer["results"], wanted, strict=True):
        np.testing.assert_allclose([face["box"] for face in line["faces"]], faces.boxes, atol=0.02)
        np.testing.assert_allclose([face["landmarks"] for face in line["faces"]], faces.landmarks, atol=0.02)
    assert answer["landmarks"] == ["left_eye", "right_eye", "nose", "mouth_left", "mouth_right"]


def test_what_is_not_there_is_json_as_well(service):
    assert error(service.get("/v2/detect"), 404)["what"] == "There is no '/v2/detect' here."
    assert error(service.get("/v1/detect"), 405)["what"] == "'/v1/detect' is not for GET."
    assert error(service.get("/docs"), 404)  # its scripts would come from elsewhere


def test_openapi_has_what_is_allowed(service):
    paths = service.get("/openapi.json").json()["paths"]
    assert {"/v1/detect", "/v1/anonymize", "/v1/crop", "/v1/models", "/healthz", "/readyz", "/metrics"} == set(paths)
    names = [parameter["name"] for parameter in paths["/v1/detect"]["post"]["parameters"]]
    assert names == ["model", "score_threshold", "min_size", "max_faces", "timing"]
    names = [parameter["name"] for parameter in paths["/v1/anonymize"]["post"]["parameters"]]
    assert names == ["model", "score_threshold", "how", "shape", "grow"]


def test_openapi_says_of_a_line_what_may_be_null(service):
    document = service.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")  # whose null is a type; "nullable" was OpenAPI 3.0's
    answer = document["paths"]["/v1/detect"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    line = answer["properties"]["results"]["items"]["properties"]
    assert line["width"]["type"] == line["height"]["type"] == ["integer", "null"]
    assert [one["type"] for one in line["error"]["anyOf"]] == ["object", "null"]


def test_a_token_is_asked_for_where_there_is_one(running, toy, square):
    with running({"toy": toy()}, token="a-token-of-letters") as service:  # noqa: S106 - of this test
        for headers in ({}, {"Authorization": "Bearer a-token"}, {"Authorization": "a-token-of-letters"}):
            told = service.post("/v1/detect", square(), headers=headers)
            assert error(told, 401)["what"] == "The request has not the token of this server."
            assert told.headers["WWW-Authenticate"] == "Bearer"
        assert error(service.get("/metrics"), 401)
        assert error(service.get("/v1/models"), 401)
        assert service.get("/healthz").status_code == service.get("/readyz").status_code == 200
        headers = {"Authorization": "Bearer a-token-of-letters"}
        assert boxes(service.post("/v1/detect", square(), headers=headers)) == [[FACE["box"]]]


def test_what_happens_is_counted(running, toy, square):
    with running({"toy": toy()}) as service:
        service.post("/v1/detect", square())
        service.post("/v1/detect", files=[("image", square(at=[(0, 0), (16, 0)])), ("image", b"text")])
        service.post("/v1/detect", b"text")
        service.get("/nowhere")
        text = service.get("/metrics").text
    for line in (
        'polyface_requests_total{path="/v1/detect",status="200"} 2.0',
        'polyface_requests_total{path="/v1/detect",status="415"} 1.0',
        'polyface_requests_total{path="other",status="404"} 1.0',
        'polyface_request_seconds_count{path="/v1/detect"} 3.0',
        'polyface_images_total{model="toy",outcome="examined"} 2.0',
        'polyface_images_total{model="toy",outcome="failed"} 2.0',
        'polyface_faces_total{model="toy"} 3.0',
        'polyface_queue_images{model="toy"} 0.0',
        *(
            f'polyface_stage_seconds_count{{model="toy",stage="{stage}"}} {count}'
            for stage, count in {"upload": 3.0, "queue": 4.0, "network": 2.0, "answer": 2.0}.items()
        ),
    ):
        assert line in text.splitlines()


def test_an_answer_tells_a_browser_to_load_nothing_from_elsewhere(service):
    answer = service.get("/")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in requests.options(service.url("/v1/detect"), timeout=60).headers


@given(
    body=st.binary(max_size=200)
    | st.text(max_size=50).map(lambda text: json.dumps({"images": [{"data": text}]}).encode()),
    kind=st.sampled_from(
        ["image/png", "application/json", "multipart/form-data; boundary=x", "multipart/form-data", "text/plain", ""]
    ),
    query=st.dictionaries(
        st.sampled_from(["score_threshold", "min_size", "max_faces", "timing", "model", "other"]), st.text(max_size=9)
    ),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_request_makes_the_server_fail(service, body, kind, query):
    answer = service.post("/v1/detect", body, kind, params=query)
    assert answer.status_code in {400, 404, 415, 422}
    assert answer.json()["error"]["what"]
