"""What a page does that it should not: said by the browser that shows it."""

from playwright.sync_api import Page

WORSE = ("warning", "error", "assert")  # than what a browser remarks or advises


def problems_of(page: Page, own: tuple[str, ...] = ("file:", "data:")) -> list[str]:
    """A list that fills with errors, dialogs, and requests to any but these addresses."""
    problems: list[str] = []
    page.on(
        "console",
        lambda message: problems.append(message.text) if message.type in WORSE else None,
    )
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "dialog", lambda dialog: (problems.append(f"dialog {dialog.message}"), dialog.dismiss())
    )
    page.on(
        "request",
        lambda request: None if request.url.startswith(own) else problems.append(request.url),
    )
    return problems
