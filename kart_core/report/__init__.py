"""What people look at: progress, summaries, trees and tables."""
