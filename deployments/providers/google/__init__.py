"""Google Gemini: generateContent.

Runs in: its provider replica.
Imports: as `providers`.
"""
