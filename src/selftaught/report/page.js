"use strict";
(function () {
  const map = document.querySelector(".map"), tip = document.getElementById("tip");
  if (!map || !tip) return;
  const items = JSON.parse(document.getElementById("items").textContent);
  function show(event) {
    const mark = event.target.closest("circle[data-i]");
    if (!mark) { tip.style.display = "none"; return; }
    const item = items[Number(mark.dataset.i)];
    tip.replaceChildren();
    if (item.picture) { const picture = new Image(); picture.src = item.picture; picture.alt = ""; tip.append(picture); }
    const words = document.createElement("div");
    words.textContent = item.text;
    tip.append(words);
    tip.style.display = "block";
    const box = map.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    tip.style.left = Math.max(0, Math.min(x + 12, box.width - tip.offsetWidth)) + "px";
    tip.style.top = y + 12 + "px";
  }
  map.addEventListener("pointermove", show);
  map.addEventListener("pointerdown", show);
  map.addEventListener("pointerleave", () => { tip.style.display = "none"; });
})();
