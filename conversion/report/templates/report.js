// Lays the first two pictures of each comparison over each other, with a handle to show more of one or of the other.
for (const group of document.querySelectorAll('[data-compare]')) {
  const [before, after] = group.querySelectorAll('figure');
  const slider = document.createElement('div');
  slider.className = 'slider';
  const over = before.querySelector('img');
  over.className = 'over';
  const handle = document.createElement('input');
  Object.assign(handle, {type: 'range', min: 0, max: 100, step: 0.1, value: 50});
  handle.setAttribute('aria-label', 'Show more of the input or of the restored photo');
  handle.addEventListener('input', () => slider.style.setProperty('--at', handle.value + '%'));
  const label = (side, words) =>
    Object.assign(document.createElement('b'), {className: side, textContent: words});
  slider.append(after.querySelector('img'), over, handle, document.createElement('i'),
    label('left', 'input'), label('right', 'restored'));
  before.replaceWith(slider);
  after.remove();
}

// Paper has no folds.
addEventListener('beforeprint', () => {
  for (const fold of document.querySelectorAll('details')) fold.open = true;
});
