"""The check by axe-core finds planted faults, so a page without findings was really looked at."""

from browser import serious_findings

FAULTY = "<html lang=en><title>x</title><main><img src=x><input></main>"
SOUND = "<html lang=en><title>x</title><main><label>Name <input></label></main>"


def test_planted_faults_are_found(tmp_path):
    places = [tmp_path / "faulty.html", tmp_path / "sound.html"]
    for place, text in zip(places, (FAULTY, SOUND), strict=True):
        place.write_text(text)
    faulty, sound = (place.as_uri() for place in places)
    found = serious_findings(tmp_path, faulty, sound)
    assert [each.partition(":")[0] for each in found[faulty]] == ["image-alt", "label"]
    assert found[sound] == []
