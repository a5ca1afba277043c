// The link's token stands behind "#", so it reaches no log. It is exchanged for a cookie, and then
// removed from the address.
const token = location.hash.slice(1);
const message = document.getElementById("message");

async function enter() {
  const reply = await fetch("/session", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ token }),
  });
  history.replaceState(null, "", "/");
  if (reply.ok) location.reload();
  else message.textContent = (await reply.json()).detail;
}

if (token) {
  message.textContent = "Opening …";
  enter().catch(() => {
    message.textContent = "The server does not answer. Start it again: pivottrace label serve";
  });
}
