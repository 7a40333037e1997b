"use strict";
// The code of a link stands after the #, which no server is ever sent; it is taken out of the address at once.
const code = location.hash.slice(1);
history.replaceState(null, "", "/enter");

async function enter(secret) {
  const answer = await fetch("/enter", {method: "POST", body: new URLSearchParams({secret})});
  if (answer.ok) location.replace("/");
  else document.getElementById("problem").textContent = await answer.text();
}

document.getElementById("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  enter(document.getElementById("secret").value);
});
if (code) enter(code);
