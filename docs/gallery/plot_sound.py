"""
A sound as a function of time
=============================

Half a second of sound: a tone with three harmonics and vibrato, and a rising whistle. A network of time alone
learns it. By default sigma follows the number of samples, so that the features reach the frequencies of the
sound.
"""

import matplotlib.pyplot as plt
import numpy as np

import coordfit

rate = 8000
t = np.arange(rate // 2) / rate
phase = 2 * np.pi * (220 * t + 2 * np.sin(2 * np.pi * 6 * t))
sound = np.exp(-3 * t) * sum(np.sin(n * phase) / n for n in (1, 2, 3))
sound += 0.3 * np.sin(2 * np.pi * (600 * t + 2000 * t**2))

result = coordfit.fit_array(sound, "t", spacing=1 / rate)
print(f"{result.metrics['snr']:.1f} dB of signal to noise")

figure, axes = plt.subplots(2, 2, figsize=(7, 5), layout="constrained", sharey="row")
names = "sound", f"network, {result.metrics['snr']:.1f} dB SNR"
for (top, bottom), values, name in zip(axes.T, (sound, result.reconstruction), names, strict=True):
    top.plot(1000 * t[800:1200], values[800:1200])
    top.set(title=name, xlabel="time / ms")
    bottom.specgram(values, NFFT=512, Fs=rate, noverlap=448, vmin=-120, vmax=-30)
    bottom.set(xlabel="time / s")
axes[0, 0].set_ylabel("amplitude")
axes[1, 0].set_ylabel("frequency / Hz")
plt.show()
