// Pictures and clips of an item.

// The clips of an item start together, so that people can compare them. The second press stops them.
export function playClips(sheet) {
  const clips = [...sheet.querySelectorAll("video")];
  const isOn = clips.some((clip) => !clip.paused);
  for (const clip of clips) {
    if (isOn) clip.pause();
    else clip.play().catch(() => {}); // a clip that cannot be shown has its own message
  }
}

// Say what cannot be shown, now or later.
export function watchMedia(sheet) {
  sheet.addEventListener("error", (event) => { if (event.target.matches("img, video")) replaceBroken(event.target); }, true);
}

// Replace what failed to load before the page's script ran.
export function checkMedia(item) {
  for (const shown of item.querySelectorAll("img, video")) if (shown.error || (shown.complete && !shown.naturalWidth)) replaceBroken(shown);
}

// If a picture or clip does not load, the rater should not guess.
function replaceBroken(shown) {
  const words = document.createElement("p");
  words.className = "notice warn";
  words.textContent = `This ${shown.tagName === "IMG" ? "picture" : "clip"} cannot be shown. Flag the item (f), or skip it (s).`;
  shown.replaceWith(words);
}
